"""One module a source; :mod:`netadapt_trt.power.find` chooses among them."""
