from __future__ import annotations

import pytest

from adapterhub.configs import parse_config_string
from adapterhub.hub.confighash import (
    all_hashes,
    card_hash,
    integral,
    library_hash,
    method_name,
    same_method,
    summary,
)
from tests.hub.conftest import SEQ_BN

HOULSBY = {**SEQ_BN, "mh_adapter": True, "non_linearity": "swish", "original_ln_before": False}


def test_published_hashes() -> None:
    """Values that the index of the original hub and its client library use."""
    assert card_hash(SEQ_BN) == library_hash(SEQ_BN) == "9076f36a74755ac4"
    assert card_hash(HOULSBY) == "b1017368d7a97b11"
    inverse = {"inv_adapter": "nice", "inv_adapter_reduction_factor": 2}
    assert card_hash({**SEQ_BN, **inverse}) == "9ed5b5a29de19b71"
    assert card_hash({**HOULSBY, **inverse}) == "bcdbfdc759d7abf1"


def test_later_defaults_do_not_count_under_the_library_rule_only() -> None:
    later = {**SEQ_BN, "phm_dim": 4, "init_weights": "bert", "scaling": 1.0, "leave_out": []}
    assert library_hash(later) == library_hash(SEQ_BN)
    assert card_hash(later) != card_hash(SEQ_BN)
    assert all_hashes(later) & all_hashes(SEQ_BN)


def test_two_and_two_point_zero_meet() -> None:
    one, other = {**SEQ_BN, "reduction_factor": 2}, {**SEQ_BN, "reduction_factor": 2.0}
    assert card_hash(one) != card_hash(other)
    assert all_hashes(one) & all_hashes(other)
    assert integral({"a": [2.0, {"b": 1.5}], "c": True}) == {"a": [2, {"b": 1.5}], "c": True}


def test_a_malformed_config_has_no_hash() -> None:
    assert library_hash({"architecture": "union"}) == ""
    assert all_hashes({"architecture": "union", "configs": [1]}) == frozenset()


@pytest.mark.parametrize(
    "name",
    [
        "seq_bn",
        "double_seq_bn",
        "seq_bn_inv",
        "double_seq_bn_inv",
        "par_bn",
        "scaled_par_bn",
        "compacter",
        "compacter++",
        "lora",
        "ia3",
        "vera",
        "dora",
        "dvora",
        "prefix_tuning",
        "prompt_tuning",
        "mtl_lora",
    ],
)
def test_method_name_is_that_of_the_preset(name: str) -> None:
    assert method_name(parse_config_string(name).to_dict()) == name


def test_names_for_people() -> None:
    assert method_name(parse_config_string("mam").to_dict()) == "prefix_tuning+par_bn"
    assert same_method("Pfeiffer", "seq_bn")
    assert not same_method("pfeiffer", "houlsby")
    assert summary(SEQ_BN) == "rf=16, relu"
    assert summary({"architecture": "lora", "r": 8, "alpha": 16.0}) == "r=8, alpha=16"
