"""What is doubtful about a table: rules by theme, each finding with its figures, why it matters and what to do."""
