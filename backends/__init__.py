"""Runtimes that ship with netadapt-trt. Import them as ``netadapt_trt.backends``, or better: by ``load_backend(name)``."""

if __name__ != "netadapt_trt.backends":
    # From the repository root `import backends` would make a second copy of every class.
    raise ImportError("import netadapt_trt.backends, not backends; and install the project first: pip install -e .")
