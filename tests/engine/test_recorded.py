"""Recorded hidden states are those behind the adapters, however transformers records them."""

from __future__ import annotations

import torch
import transformers as tf
from transformers.modeling_outputs import BaseModelOutput

import adapterhub
from adapterhub.engine.recorded import with_adapters
from tests import tiny


def test_recorded_states_are_exchanged_by_identity() -> None:
    before, after, other = torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, 2)
    output = BaseModelOutput(last_hidden_state=before, hidden_states=(other, before))
    with_adapters(output, [(before, after)])
    assert output.hidden_states is not None
    assert output.hidden_states[0] is other
    assert output.hidden_states[1] is after
    assert output["hidden_states"][1] is after
    assert output.last_hidden_state is before  # what a model puts out is its own matter
    with_adapters((before,), [(before, after)])


def test_hidden_states_follow_the_adapters_of_blocks() -> None:
    model = adapterhub.init(tiny.bert(tf.BertModel, num_hidden_layers=3))
    model.add_adapter("a", "noreft[r=2,dropout=0.0,prefix_positions=2]", set_active=True)
    tiny.randomize(model, "a")
    seen: list[torch.Tensor] = []
    for block in model.encoder.layer:
        block.register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        states = model(tiny.tokens(), output_hidden_states=True).hidden_states
    assert len(states) == 4
    for state, block_output in zip(states[1:], seen, strict=True):
        value = block_output[0] if isinstance(block_output, tuple) else block_output
        torch.testing.assert_close(state, value)
