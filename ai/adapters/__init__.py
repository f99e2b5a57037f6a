"""Adapters (LoRA): found in folders, read from three layouts, checked against a model, and applied.

    folder     which adapters lie where (names and paths; imports no torch)
    files      an adapter's files as tensors and configuration: nothing but safetensors and JSON is read
    layouts    the tensors' names, whoever wrote them, as layers of the model
    reading    all of that and the checks: a path becomes an `Adapter`
    adapter    what it becomes: every layer's A, B and scale, in no layout any more
    residents  which adapters are in a model's slots, who holds them, and the thread that brings others
    stacks     the slots' tensors, and the layers that gather from them by row

A layer's weight W acts as W + scale · B·A, summed over the adapters in use, each times the scale its user gave it
(LoRA, Hu et al. 2021, https://arxiv.org/abs/2106.09685).
"""
