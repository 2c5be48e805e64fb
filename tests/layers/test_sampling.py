"""Sampling against float64 re-implementations, and what it promises about seeds, batches and failing rows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutti.errors import InvalidRequest, StageFailed
from tutti.layers.bad_words import bad_word_sequences
from tutti.layers.candidates import Filters, draw, draw_filtered, kept, top_candidates
from tutti.layers.sampler_state import uniform
from tutti.layers.sampling import Sampler, SamplerState, check_token_ids, gather_logprobs
from tutti.request import SamplingParams

EOS = 0


def state(prompt=(1, 2), output=(), eos=(EOS,), bad=(), seed=None, **params) -> SamplerState:
    made = SamplerState(SamplingParams(**params), prompt, eos, bad, seed)
    for token in output:
        made.accept(token)
    return made


def sample(logits: torch.Tensor, *states: SamplerState, bitmask=None):
    return Sampler(logits.shape[1], "cpu").sample(logits.clone(), states, bitmask)


def pack(rows: list[set[int]], vocab: int) -> torch.Tensor:
    words = torch.zeros(len(rows), -(-vocab // 32), dtype=torch.int64)
    for row, allowed in enumerate(rows):
        for token in allowed:
            words[row, token // 32] |= 1 << (token % 32)
    return torch.where(words >= 1 << 31, words - (1 << 32), words).to(torch.int32)


# --- the straightforward float64 re-implementation --------------------------------------------------------------------


def reference_logits(row: torch.Tensor, own: SamplerState, allowed: set[int] | None) -> list[float]:
    """One row's logits after everything that comes before temperature, token by token as vLLM documents it."""
    params, prompt_and_output = own.params, {1, 2, *own.output}
    shaped = []
    for token, value in enumerate(row.double().tolist()):
        count = own.output.count(token)
        banned = allowed is not None and token not in allowed
        banned |= params.allowed_token_ids is not None and token not in params.allowed_token_ids
        banned |= len(own.output) < params.min_tokens and token in (EOS, *params.stop_token_ids)
        banned |= any(
            token == word[-1] and own.output[len(own.output) - len(word) + 1 :] == list(word[:-1])
            for word in own.bad_words
            if len(word) <= len(own.output) + 1
        )
        value += (params.logit_bias or {}).get(token, 0.0)
        if token in prompt_and_output:
            value = value / params.repetition_penalty if value > 0 else value * params.repetition_penalty
        value -= params.frequency_penalty * count + params.presence_penalty * (count > 0)
        shaped.append(-math.inf if banned else value)
    return shaped


def reference_kept(logits: list[float], top_k: int, top_p: float, min_p: float) -> list[int]:
    """The tokens that filters keep of one row of logits (temperature applied)."""
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    weight = [math.exp(value - logits[order[0]]) for value in logits]
    left = [token for token in order if weight[token] > 0 and weight[token] >= min_p]
    if 0 < top_k < len(logits):
        left = [token for token in left if logits[token] >= logits[order[top_k - 1]]]
    if top_p < 1.0:
        goal, mass, nucleus = top_p * sum(weight[token] for token in left), 0.0, []
        for token in left:
            if mass >= goal and nucleus:
                break
            nucleus.append(token)
            mass += weight[token]
        left = nucleus
    return left


def reference_draw(logits: list[float], keep: list[int], number: float) -> tuple[int, float]:
    """The token where the running sum over the kept, by id, passes `number`; and how near a boundary that was."""
    peak = max(logits)
    keep = sorted(keep)
    weight = [math.exp(logits[token] - peak) for token in keep]
    target, running, nearest, chosen = number * sum(weight), 0.0, math.inf, None
    for token, own in zip(keep, weight, strict=True):
        running += own
        nearest = min(nearest, abs(running - target) / sum(weight))
        if chosen is None and running > target:
            chosen = token
    return keep[-1] if chosen is None else chosen, nearest


VOCAB = 150
token_ids = st.integers(0, VOCAB - 1)


@st.composite
def any_state(draw_) -> SamplerState:
    some = draw_(st.sampled_from(("greedy", "plain", "filtered")))
    params = {
        "temperature": 0.0 if some == "greedy" else draw_(st.sampled_from((0.3, 1.0, 2.0))),
        "repetition_penalty": draw_(st.sampled_from((1.0, 0.7, 1.5))),
        "frequency_penalty": draw_(st.sampled_from((0.0, 0.5, -1.0))),
        "presence_penalty": draw_(st.sampled_from((0.0, 1.0, -0.5))),
        "min_tokens": draw_(st.integers(0, 4)),
        "max_tokens": None,
        "stop_token_ids": draw_(st.lists(token_ids, max_size=2)),
        "logit_bias": draw_(st.none() | st.dictionaries(token_ids, st.floats(-5, 5, width=32), max_size=4)),
        "allowed_token_ids": draw_(st.none() | st.lists(token_ids, min_size=60, max_size=90, unique=True)),
    }
    if some == "filtered":
        params |= {
            "top_k": draw_(st.sampled_from((0, 1, 5, 63, 64, 65, 149))),
            "top_p": draw_(st.sampled_from((1.0, 0.9, 0.5, 0.05))),
            "min_p": draw_(st.sampled_from((0.0, 0.01, 0.3))),
        }
    bad = draw_(st.lists(st.lists(token_ids, min_size=1, max_size=3), max_size=3))
    output = draw_(st.lists(st.sampled_from((1, 2, 3, 7, 100)), max_size=5))
    bad += [[*output[-2:], draw_(token_ids)]]
    return state(output=output, bad=bad, seed=draw_(st.integers(0, 2**63)), **params)


@settings(max_examples=40, deadline=None)
@given(st.lists(any_state(), min_size=1, max_size=5), st.integers(0, 2**31), st.booleans())
def test_every_row_of_a_mixed_batch_equals_the_float64_reference(states, seed, masked):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(states), VOCAB, generator=generator) * 3
    allowed = [set(range(40, 150)) if masked and row % 2 else set(range(VOCAB)) for row in range(len(states))]
    result = sample(logits, *states, bitmask=pack(allowed, VOCAB) if masked else None)
    for row, own in enumerate(states):
        shaped = reference_logits(logits[row], own, allowed[row])
        assert max(shaped) > -math.inf and result.errors[row] is None
        if own.greedy:
            assert shaped[result.tokens[row]] == pytest.approx(max(shaped), abs=1e-5)
            continue
        params = own.params
        scaled = [value / params.temperature for value in shaped]
        keep = reference_kept(scaled, params.top_k, params.top_p, params.min_p)
        token, nearest = reference_draw(scaled, keep, own.uniform())
        if nearest > 1e-5:  # nearer than float32 can tell
            edge = min(scaled[kept_] for kept_ in keep)
            dropped = [value for value in scaled if value < edge]
            if not dropped or edge - max(dropped) > 1e-4:
                assert result.tokens[row] == token


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from((64, 65, 300, 1500, 9000)),
    st.sampled_from((0.1, 1.0, 4.0)),
    st.booleans(),
    st.sampled_from((0, 1, 10, 63, 64, 65, 1023, 1024, 1100)),
    st.sampled_from((1.0, 0.999, 0.9, 0.3, 1e-9)),
    st.sampled_from((0.0, 0.001, 0.5, 1.0)),
)
def test_the_kept_set_is_exact_at_every_width(seed, vocab, spread, coarse, top_k, top_p, min_p):
    logits = torch.randn(1, vocab, generator=torch.Generator().manual_seed(seed)) * spread
    if coarse:  # equal logits, as bfloat16 models give them
        logits = (logits * 4).round() / 4
    logits -= logits.max()
    top_k = min(top_k, vocab)
    filters = Filters(
        torch.tensor([top_k or vocab]),
        torch.tensor([top_p], dtype=torch.float64),
        torch.tensor([min_p], dtype=torch.float64),
    )
    expected = sorted(reference_kept(logits[0].double().tolist(), top_k, top_p, min_p))
    total = logits.double().exp().sum(-1)
    for width in (width for width in (64, 1024) if width < vocab):
        values, ids = top_candidates(logits, width)
        count, certain = kept(values, total, filters, vocab)
        if certain:
            assert ids[0, : int(count)].sort().values.tolist() == expected
    drawn = draw_filtered(
        logits.expand(40, -1),
        Filters(*(column.expand(40) for column in (filters.top_k, filters.top_p, filters.min_p))),
        torch.arange(40, dtype=torch.float64) / 40,
    )
    assert set(drawn.tolist()) <= set(expected)
    assert drawn.tolist() == sorted(drawn.tolist()) and int(drawn[0]) == expected[0]


def test_a_flat_distribution_is_cut_by_top_p_exactly():
    filters = Filters(torch.tensor([5000]), torch.tensor([0.5], dtype=torch.float64), torch.zeros(1).double())
    last = draw_filtered(torch.zeros(1, 5000), filters, torch.tensor([1 - 2**-53], dtype=torch.float64))
    assert last.tolist() == [2499]


# --- seeds and batches ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_tokens_alone_and_in_any_batch():
    torch.manual_seed(0)
    logits = torch.randn(12, 3000) * 2
    kinds = ({}, {"top_p": 0.9}, {"top_k": 20, "temperature": 0.7}, {"min_p": 0.1}, {"temperature": 0.0})
    for position in range(3):
        states = [state(output=[5] * position, seed=row, **kinds[row % 5]) for row in range(12)]
        together = sample(logits, *states).tokens
        backwards = sample(logits.flip(0), *states[::-1]).tokens[::-1]
        alone = [sample(logits[row : row + 1], own).tokens[0] for row, own in enumerate(states)]
        assert together == backwards == alone


def test_a_seed_repeats_its_tokens_and_another_seed_gives_others():
    logits = torch.zeros(1, 1000)

    def run(seed):
        own = state(seed=seed)
        for _ in range(20):
            own.accept(sample(logits, own).tokens[0])
        return own.output

    assert run(7) == run(7)
    assert run(7) != run(8)
    assert len(set(run(7))) > 15


def test_without_a_seed_two_requests_differ():
    assert state().seed != state().seed
    assert state(seed=None).seed != state(seed=None).seed
    assert SamplerState(SamplingParams(seed=5), (), ()).seed == 5
    assert SamplerState(SamplingParams(seed=5), (), (), seed=6).seed == 6


def test_the_numbers_of_a_seed_are_uniform_and_uncorrelated():
    numbers = torch.tensor([[uniform(seed, position) for position in range(100)] for seed in range(-50, 50)])
    assert float(numbers.min()) >= 0.0 and float(numbers.max()) < 1.0
    counts = torch.histc(numbers.float(), 50, 0, 1)
    assert float(((counts - 200) ** 2 / 200).sum()) < 85.4  # chi-square, 49 degrees of freedom, p = 0.001
    for one, other in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
        pairs = torch.corrcoef(torch.stack((one.flatten(), other.flatten())))
        assert abs(float(pairs[0, 1])) < 0.04


def test_draws_follow_the_distribution():
    logits = torch.full((4000, 100), -math.inf)
    logits[:, :5] = torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0])
    for params in ({}, {"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.2}, {"temperature": 2.0}):
        tokens = sample(logits, *(state(seed=row, **params) for row in range(4000))).tokens
        scaled = (logits[0].double() / params.get("temperature", 1.0)).tolist()
        keep = reference_kept(
            scaled, params.get("top_k", 0), params.get("top_p", 1.0), params.get("min_p", 0.0)
        )
        weights = [math.exp(value) if token in keep else 0.0 for token, value in enumerate(scaled)]
        expected = [4000 * weight / sum(weights) for weight in weights]
        assert all(token in keep for token in tokens)
        distance = sum((tokens.count(token) - expected[token]) ** 2 / expected[token] for token in keep)
        assert distance < 18.5  # chi-square, at most 4 degrees of freedom, p = 0.001


def test_a_token_of_no_weight_is_never_drawn():
    weights = torch.zeros(3, 1000)
    weights[0, 999] = weights[1, 0] = 1.0
    weights[2, [130, 700]] = torch.tensor([1e-30, 1.0])
    for number in (0.0, 0.5, 1 - 2**-53):
        assert draw(weights, torch.full((3,), number, dtype=torch.float64)).tolist()[:2] == [999, 0]
        assert int(draw(weights, torch.full((3,), number, dtype=torch.float64))[2]) in (130, 700)


# --- what vLLM documents ----------------------------------------------------------------------------------------------


def test_temperature_zero_is_greedy_whatever_the_filters():
    logits = torch.tensor([[0.0, 3.0, 2.9]])
    assert sample(logits, state(temperature=0.0, top_p=0.1, top_k=2, min_p=0.5)).tokens == [1]


def test_min_tokens_holds_back_eos_and_stop_ids_until_reached():
    logits = torch.tensor([[9.0, 8.0, 7.0, 1.0]])
    params = {"temperature": 0.0, "min_tokens": 2, "stop_token_ids": [1], "ignore_eos": True}
    assert sample(logits, state(output=[3], **params)).tokens == [2]
    assert sample(logits, state(output=[3, 3], **params)).tokens == [0]


def test_a_bad_word_of_several_tokens_is_stopped_at_its_last_token_only():
    logits = torch.tensor([[0.0, 1.0, 9.0, 3.0]])
    assert sample(logits, state(bad=[(3, 2)], output=[3], temperature=0.0)).tokens == [3]
    assert sample(logits, state(bad=[(3, 2)], output=[1], temperature=0.0)).tokens == [2]
    assert sample(logits, state(bad=[(3, 2)], prompt=[3], temperature=0.0)).tokens == [
        2
    ]  # output alone counts


def test_bad_words_are_tokenized_with_and_without_a_leading_space():
    encode = {
        "cat": (1,),
        " cat": (2,),
        "dog": (3, 4),
        " dog": (5,),
        "x": (6, 7),
        " x": (6, 8),
        "y": (9, 1),
        " y": (2, 1),
    }.__getitem__
    assert bad_word_sequences(["cat"], encode) == ((1,), (2,))
    assert bad_word_sequences([" cat"], encode) == ((1,), (2,))
    assert bad_word_sequences(["dog"], encode) == ((3, 4),)  # another length
    assert bad_word_sequences(["x"], encode) == ((6, 7),)  # the same first token
    assert bad_word_sequences(["y"], encode) == ((9, 1), (2, 1))


def test_repetition_counts_the_prompt_and_the_other_penalties_do_not():
    logits = torch.tensor([[0.0, 4.0, 3.0]])
    assert sample(logits, state(prompt=[1], temperature=0.0, repetition_penalty=2.0)).tokens == [2]
    assert sample(logits, state(prompt=[1], temperature=0.0, presence_penalty=2.0)).tokens == [1]
    assert sample(logits, state(output=[1], temperature=0.0, presence_penalty=2.0)).tokens == [2]
    assert sample(logits, state(output=[1], temperature=0.0, frequency_penalty=0.9)).tokens == [1]
    assert sample(logits, state(output=[1, 1], temperature=0.0, frequency_penalty=0.9)).tokens == [2]


def test_with_a_window_all_penalties_look_at_the_last_tokens_of_prompt_and_output():
    logits = torch.tensor([[0.0, 4.0, 3.0]])
    for penalty in ({"repetition_penalty": 2.0}, {"presence_penalty": 2.0}, {"frequency_penalty": 2.0}):
        for window, chosen in ((1, 1), (2, 1), (3, 2), (9, 2)):
            own = state(prompt=[1], output=[0, 0], temperature=0.0, penalty_window=window, **penalty)
            assert sample(logits, own).tokens == [chosen]
    twice = state(prompt=[1], output=[1, 0], temperature=0.0, penalty_window=3, frequency_penalty=0.9)
    assert sample(logits, twice).tokens == [2]
    twice.rollback(2)
    assert sample(logits, twice).tokens == [1]


def test_prompt_tokens_beyond_the_logits_are_no_obstacle():
    logits = torch.tensor([[0.0, 4.0, 3.0]])
    assert sample(logits, state(prompt=[1, 99], temperature=0.0, repetition_penalty=2.0)).tokens == [2]


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 200), max_size=300), st.data())
def test_rollback_leaves_the_state_as_if_the_tokens_had_never_come(prompt, output, data):
    window = data.draw(st.sampled_from((None, 1, 5)))
    params = {"repetition_penalty": 1.2, "frequency_penalty": 0.3, "penalty_window": window}
    cut = data.draw(st.integers(0, len(output)))
    one, other = (state(prompt=prompt, output=tokens, seed=3, **params) for tokens in (output, output[:cut]))
    one.rollback(len(output) - cut)
    assert one.output == other.output and one.uniform() == other.uniform()
    assert dict(zip(one.counts.ids.tolist(), one.counts.counts.tolist(), strict=True)) == dict(
        zip(other.counts.ids.tolist(), other.counts.counts.tolist(), strict=True)
    )
    with pytest.raises(ValueError, match="cannot take back"):
        one.rollback(cut + 1)


@pytest.mark.parametrize("name", ["logit_bias", "allowed_token_ids", "stop_token_ids"])
def test_a_token_id_outside_the_vocabulary_is_refused_by_name(name):
    value = {100: 1.0} if name == "logit_bias" else (5, 100)
    check_token_ids(SamplingParams(**{name: value}), 101)
    with pytest.raises(InvalidRequest, match=f"{name} names token 100") as refused:
        check_token_ids(SamplingParams(**{name: value}), 100)
    assert refused.value.param == name


# --- log-probabilities ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {}, {"top_k": 3, "temperature": 0.2}])
def test_logprobs_are_of_the_unchanged_logits(params):
    torch.manual_seed(1)
    logits = torch.randn(4, 500) * 3
    expected = logits.double().log_softmax(-1)
    states = [
        state(output=[4], seed=row, presence_penalty=2.0, logit_bias={9: 50.0}, logprobs=top, **params)
        for row, top in enumerate((None, 0, 3, -1))
    ]
    result = sample(logits, *states)
    assert result.logprobs[0] is None and result.tokens == [9] * 4
    for row, size in ((1, 0), (2, 3), (3, 500)):
        found = result.logprobs[row]
        assert found.token == 9 and found.logprob == pytest.approx(float(expected[row, 9]), abs=1e-5)
        assert found.rank == int((expected[row] > expected[row, 9]).sum()) + 1
        values, ids = expected[row].sort(descending=True, stable=True)
        assert [token for token, _ in found.top] == ids[:size].tolist()
        assert [value for _, value in found.top] == pytest.approx(values[:size].tolist(), abs=1e-5)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from((1, 70, 3000)), st.sampled_from((0, 1, 5, -1)), st.booleans())
def test_gathered_logprobs_equal_the_reference_for_any_number_of_rows(seed, vocab, top, coarse):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(70 if vocab < 100 else 3, vocab, generator=generator) * 2
    logits = logits.round() if coarse else logits
    targets = torch.randint(vocab, (len(logits),), generator=generator).tolist()
    expected = logits.double().log_softmax(-1)
    for row, found in enumerate(gather_logprobs(logits, targets, top)):
        ids = logits[row].sort(descending=True, stable=True).indices[: vocab if top < 0 else top].tolist()
        assert (
            found.token == targets[row]
            and found.rank == int((logits[row] > logits[row, targets[row]]).sum()) + 1
        )
        assert found.logprob == pytest.approx(float(expected[row, targets[row]]), abs=1e-5)
        assert [token for token, _ in found.top] == ids


# --- failing rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {}, {"top_p": 0.9}, {"top_k": 2}, {"logprobs": 2}])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_row_that_is_not_finite_fails_alone(params, poison):
    torch.manual_seed(2)
    logits = torch.randn(3, 2000)
    healthy = [state(seed=row, **params) for row in range(3)]
    expected = sample(logits, *healthy).tokens
    broken = logits.clone()
    broken[1, 17] = poison
    result = sample(broken, *healthy)
    assert isinstance(result.errors[1], StageFailed) and "not finite" in result.errors[1].message
    assert result.errors[0] is result.errors[2] is None
    assert result.tokens == [expected[0], -1, expected[2]] and result.logprobs[1] is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_whose_masks_leave_no_token_fails_alone(temperature):
    logits = torch.zeros(2, 100)
    states = [
        state(temperature=temperature, allowed_token_ids=[50], seed=1),
        state(temperature=temperature, seed=2),
    ]
    result = sample(logits, *states, bitmask=pack([{51}, {52}], 100))
    assert isinstance(result.errors[0], InvalidRequest) and "no token is left" in result.errors[0].message
    assert result.tokens == [-1, 52] and result.errors[1] is None


@given(st.sampled_from((31, 32, 33, 100)), st.data())
def test_a_bitmask_excludes_exactly_its_zero_bits(vocab, data):
    rows = data.draw(st.lists(st.sets(st.integers(0, vocab - 1), min_size=1), min_size=1, max_size=3))
    logits = torch.arange(vocab, dtype=torch.float32).flip(0).repeat(len(rows), 1)
    assert sample(logits, *(state(temperature=0.0) for _ in rows), bitmask=pack(rows, vocab)).tokens == [
        min(allowed) for allowed in rows
    ]


def test_logits_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="logits"):
        Sampler(10, "cpu").sample(torch.zeros(2, 9), [state(), state()])


@pytest.mark.gpu
def test_a_gpu_draws_what_the_cpu_draws():
    torch.manual_seed(4)
    logits = torch.randn(20, 151936) * 2
    kinds = (
        {},
        {"top_p": 0.9},
        {"top_k": 20},
        {"min_p": 0.1},
        {"temperature": 0.0, "repetition_penalty": 1.3},
    )
    states = [state(output=[row], seed=row, logprobs=2, **kinds[row % 5]) for row in range(20)]
    mask = pack([set(range(row % 2 * 1000, 151936)) for row in range(20)], 151936)
    here = Sampler(151936, "cpu").sample(logits.clone(), states, mask)
    there = Sampler(151936, "cuda").sample(logits.cuda(), states, mask)
    assert here.tokens == there.tokens
