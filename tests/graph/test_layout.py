from __future__ import annotations

from netadapt_trt.graph.layout import Layout, Piece, Variables, length, scaled


def _shape(variables: Variables, layout: Layout) -> list[tuple[int | None, int, int]]:
    return [(piece.variable, piece.channels, piece.inner) for piece in variables.resolve(layout)]


def test_tie_makes_two_equal_layouts_one() -> None:
    variables = Variables()
    first, second = variables.new(8), variables.new(8)

    variables.tie(first, second, "add")

    assert _shape(variables, second) == _shape(variables, first) == [(0, 8, 1)]
    assert not variables.reason(0)


def test_tie_divides_the_longer_at_the_seam_of_a_concatenation() -> None:
    variables = Variables()
    left, right, whole = variables.new(3), variables.new(5), variables.new(8)

    variables.tie((*left, *right), whole, "add")

    assert _shape(variables, whole) == [(0, 3, 1), (1, 5, 1)]


def test_tie_follows_a_division_into_layouts_that_were_held_from_before() -> None:
    variables = Variables()
    whole, left, right = variables.new(8), variables.new(3), variables.new(5)
    flattened = scaled(whole, 4)

    variables.tie((*left, *right), whole, "add")

    assert [piece[1:] for piece in _shape(variables, flattened)] == [(3, 4), (5, 4)]
    assert length(variables.resolve(flattened)) == 32


def test_tie_of_seams_that_interleave_divides_both_sides() -> None:
    variables = Variables()
    a, b, c, d = variables.new(2), variables.new(6), variables.new(5), variables.new(3)

    variables.tie((*a, *b), (*c, *d), "add")

    # Seams at 2 and at 5 of 8 positions leave parts of 2, 3 and 3 channels on both sides.
    assert _shape(variables, (*a, *b)) == _shape(variables, (*c, *d))
    assert [piece[1] for piece in _shape(variables, (*a, *b))] == [2, 3, 3]


def test_tie_of_a_map_and_a_vector_cuts_the_vector_in_blocks() -> None:
    variables = Variables()
    channels, positions = variables.new(4), variables.new(36)

    variables.tie(scaled(channels, 9), positions, "linear")

    assert _shape(variables, positions) == [(0, 4, 9)]
    assert not variables.reason(0)


def test_tie_of_blocks_that_do_not_divide_each_other_freezes_both() -> None:
    variables = Variables()
    left, right = variables.new(3), variables.new(2)

    variables.tie(scaled(left, 2), scaled(right, 3), "fc")

    assert "another arrangement in fc" in variables.reason(0)
    assert "another arrangement in fc" in variables.reason(1)


def test_tie_with_fixed_channels_freezes_only_what_meets_them() -> None:
    variables = Variables()
    short, whole = variables.new(4), variables.new(6)

    variables.tie((*short, Piece(None, 2)), whole, "shortcut")

    first, second = variables.resolve(whole)
    assert (first.variable, first.channels) == (0, 4)
    assert not variables.reason(0)
    assert second.variable is not None
    assert "shortcut" in variables.reason(second.variable)


def test_tie_with_nothing_freezes() -> None:
    variables = Variables()
    layout = variables.new(4)

    variables.tie(layout, None, "add")

    assert variables.reason(0)


def test_reasons_survive_unions_and_divisions() -> None:
    variables = Variables()
    left, right, whole, twin = variables.new(3), variables.new(5), variables.new(8), variables.new(8)
    variables.freeze(twin, "network output")

    variables.tie(whole, twin, "add")
    variables.tie((*left, *right), whole, "add")

    assert variables.reason(0) == variables.reason(1) == "network output"


def test_tie_of_a_row_that_repeats_a_variable_keeps_its_copies_together() -> None:
    variables = Variables()
    half, whole = variables.new(4), variables.new(8)

    variables.tie((*half, *half), whole, "cat")

    assert _shape(variables, whole) == [(0, 4, 1), (0, 4, 1)]


def test_alike_divides_at_every_seam_and_ties_the_blocks() -> None:
    variables = Variables()
    whole = variables.new(12)

    block = variables.alike(whole, 3, "conv")

    assert block is not None
    assert _shape(variables, whole) == _shape(variables, block) * 3
    assert length(block) == 4


def test_alike_of_blocks_that_meet_other_seams_divides_both() -> None:
    variables = Variables()
    left, right = variables.new(3), variables.new(5)

    block = variables.alike((*left, *right), 2, "conv")

    # 3 + 1 against 4: a part of 3, and a part of 1, twice.
    assert block is not None
    assert [piece[1] for piece in _shape(variables, block)] == [3, 1]
    assert _shape(variables, (*left, *right)) == _shape(variables, block) * 2


def test_alike_of_pairs_keeps_them_whole() -> None:
    variables = Variables()
    pairs = variables.new(6)

    assert variables.alike(scaled(pairs, 2), 4, "conv") is None  # three positions: a pair and a half
    block = variables.alike(scaled(pairs, 2), 3, "conv")

    assert block is not None
    assert [piece[1:] for piece in _shape(variables, block)] == [(2, 2)]


def test_alike_with_channels_that_stay_freezes_what_meets_them() -> None:
    variables = Variables()
    part = variables.new(4)

    variables.alike((*part, Piece(None, 4)), 2, "conv")

    assert "conv" in variables.reason(0)
