"""The block types of ggml: quantized rows to values and back.

A row of a quantized tensor is a sequence of blocks of a fixed number of elements in a fixed number of bytes. `kinds` says
which types there are (no torch), `unpack` takes blocks apart, `dequantize` and `canonical` make values or the kernels'
form of them, `quantize` goes the other way.
"""
