"""A torch module -> its graph in canonical form. Only this file uses torch's exporter."""

from __future__ import annotations

import logging
import warnings

import torch

from models.networks.graph import OPSET, Graph, read_graph


def export_graph(network: torch.nn.Module, side: int) -> Graph:
    """The graph, in canonical form, of a network that maps float32 [n, 3, side, side] to logits float32 [n, classes].

    Raises ValueError where the network has another shape of input or output.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 3, side, side),),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
        )
    assert program is not None
    return read_graph(program.model_proto)
