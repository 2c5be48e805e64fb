"""The block types of ggml: quantized rows to values and back.

A row of a quantized tensor is a sequence of blocks, each a fixed number of elements in a fixed number of bytes. `kinds`
says which types there are (no torch), `unpack` takes blocks apart, `dequantize` makes values or the kernels' form of
them, `quantize` goes the other way (with `pack` and, for super-blocks, `search`).
"""
