"""What sweeps share of their forward passes: the results are those of whole passes, bit for bit."""

import pytest
from transformers import PreTrainedModel

from esa_pytest.perturbation import Perturbation, Replace, Scale, Zero
from esa_pytest.sensitivity import Trial
from esa_pytest.sensitivity.bench import Bench
from esa_pytest.sensitivity.stream import first_layer_reached
from tests.model.guards import guarded_of
from tests.model.tiny import FAMILIES, NUM_LAYERS, build_network
from tests.model.twins import hooks_of, state_of


def some_of_every_layer(network: PreTrainedModel) -> list[str]:
    """A parameter of every layer, the embedding, the last norm and the head."""
    names = [name for name, p in network.named_parameters() if p.dim() == 2 or "norm" in name]
    return [names[0], *(n for n in names if ("down_proj" in n or "4h_to_h" in n)), *names[-2:]]


@pytest.mark.parametrize("family", FAMILIES)
def test_shared_passes_give_the_bits_of_whole_ones(family: str) -> None:
    guarded = guarded_of(family)
    network = guarded.model.network
    before, hooks = state_of(network), hooks_of(network)
    shared, whole = Bench(guarded), Bench(guarded, shared=False)
    assert shared.shared
    assert not whole.shared
    for name in some_of_every_layer(network):
        kind = Scale(1.5) if network.get_parameter(name).dim() == 2 else Replace(0.5)
        trial = Trial(label=name, perturbations=(Perturbation(parameter=name, kind=kind),))
        (_, one), (_, other) = shared.drift(trial), whole.drift(trial)
        assert one == other, name
        assert one.verdict.bits is not None
        assert one.verdict.bits.num_changed > 0
        assert one.verdict.reference is not None
        assert len(one.verdict.reference.modules) == one.verdict.reference.num_points
    assert state_of(network) == before
    assert hooks_of(network) == hooks


def test_what_runs_before_the_layers_is_not_taken_for_what_lies_behind_them() -> None:
    """GPT-2's position embedding is listed behind the layers, beside the last norm, and runs in front of them."""
    guarded = guarded_of("gpt2")
    shared, whole = Bench(guarded), Bench(guarded, shared=False)
    assert shared.shared
    for name in ("transformer.wpe.weight", "transformer.ln_f.weight", "transformer.h.1.mlp.c_proj.weight"):
        trial = Trial(label=name, perturbations=(Perturbation(parameter=name, kind=Zero()),))
        (_, one), (_, other) = shared.drift(trial), whole.drift(trial)
        assert one == other, name
        assert one.rms > 0, name


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_before_the_perturbed_one_are_not_computed(family: str) -> None:
    guarded = guarded_of(family)
    network = guarded.model.network
    bench = Bench(guarded)
    ran: list[str] = []
    attentions = [(n, m) for n, m in network.named_modules() if n.endswith(("self_attn", "attention"))]
    assert len(attentions) == NUM_LAYERS
    handles = [m.register_forward_hook(lambda *_, name=n: ran.append(name)) for n, m in attentions]
    try:
        name = next(n for n, p in network.named_parameters() if p.dim() == 2 and ".1." in n)
        bench.drift(Trial(label=name, perturbations=(Perturbation(parameter=name, kind=Zero()),)))
    finally:
        for handle in handles:
            handle.remove()
    assert set(ran) == {n for n, _ in attentions[1:]}


def test_first_layer_is_the_first_of_all_that_are_perturbed() -> None:
    guarded = guarded_of("llama")
    network = guarded.model.network
    assert guarded.clean.probe is not None
    ran = guarded.clean.probe.points
    down, norm = "model.layers.{}.mlp.down_proj.weight", "model.norm.weight"
    assert first_layer_reached(network, [down.format(2), down.format(1)], ran=ran) == 1
    assert first_layer_reached(network, [norm], ran=ran) == NUM_LAYERS
    assert first_layer_reached(network, ["lm_head.weight", norm], ran=ran) == NUM_LAYERS
    assert first_layer_reached(network, [norm, "model.embed_tokens.weight"], ran=ran) == 0
    assert first_layer_reached(network, ["model.rotary_emb.inv_freq"], ran=ran) == 0
    # Where nobody knows when it runs, it is not taken to run last.
    assert first_layer_reached(network, [norm]) == 0
    assert first_layer_reached(network, ["lm_head.weight"]) == NUM_LAYERS
    tied = build_network("llama", tie_word_embeddings=True)
    tied.tie_weights()
    assert first_layer_reached(tied, ["lm_head.weight"], ran=ran) == 0


def test_nothing_is_shared_where_the_memory_does_not_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("esa_pytest.sensitivity.bench.available_bytes", lambda _device: 100_000)
    assert not Bench(guarded_of("llama")).shared
