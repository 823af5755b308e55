"""The page of ``netadapt-trt ui``: searches are started and watched, tables browsed, runs followed and compared."""
