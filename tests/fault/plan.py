"""What one request of the load asks for, what the provider does to it, and when its client leaves."""

import random
from dataclasses import dataclass, field

# Every delta is one word and one token, for the provider as well as (within 4 %) for the relay's estimate.
WORDS = (" the", " standard")
MODEL = "test-model"
BUDGET_KEY = "budget"  # its requests stream, and cost no more than the relay can foresee


@dataclass
class Answer:
    """What the provider does with one try."""
    fault: str = "none"  # none | status | drop | close | reset | clean | error_event | no_usage
    after_words: int = 0  # the fault comes after so many
    stalls: dict = field(default_factory=dict)  # word number -> seconds


@dataclass
class Plan:
    """One request. Made of the seed and its number alone."""
    id: str
    key: str
    stream: bool
    include_usage: bool
    words: int
    batch: int  # words the provider sends at once
    pause_s: float  # between batches
    usage: dict  # what the provider reports at the end
    running_usage: bool  # a usage so far on every batch, as vLLM can
    answers: list  # one per try; the last one for all further tries
    leave: str  # stay | fin | rst | reset_stream
    leave_after_words: int  # -1: before the answer's head
    resumable: bool = False  # its upstream is read to the end, whoever leaves


FAULTS = ("status", "drop", "close", "reset", "clean", "error_event", "no_usage")


def make_plan(seed, number, keys, http2):
    """keys: names and weights of the keys in use."""
    chance = random.Random(f"{seed}/{number}")
    words = chance.choice((chance.randint(1, 12), chance.randint(1, 60), chance.randint(20, 400)))
    batch = chance.choice((1, 4, 16, 64))
    pauses = max(1, words // batch)
    key = chance.choices(*zip(*keys))[0]
    stream = chance.random() < 0.85 or key == BUDGET_KEY
    leave = chance.choice(("reset_stream",) if http2 else ("fin", "rst")) if chance.random() < 0.15 else "stay"
    return Plan(
        id=f"f{seed}-{number}", key=key, stream=stream,
        include_usage=chance.random() < 0.5, words=words, batch=batch,
        pause_s=min(0.15, chance.choice((0, 0.2, 1.0)) * chance.random() / pauses),
        usage=_usage(chance, words, key), running_usage=chance.random() < 0.15, answers=_answers(chance, words), leave=leave,
        leave_after_words=-1 if chance.random() < 0.2 else chance.randint(0, words),
        resumable=stream and chance.random() < 0.2)


def _usage(chance, words, key):
    if key == BUDGET_KEY:
        return {"prompt": 5, "cached": 0, "cache_write": 0, "reasoning": 0, "completion": words}
    prompt = chance.randint(1, 9000)
    cached = chance.choice((0, chance.randint(0, prompt)))
    written = chance.choice((0, chance.randint(0, prompt - cached)))
    reasoning = chance.choice((0, chance.randint(1, 500)))
    return {"prompt": prompt, "cached": cached, "cache_write": written, "reasoning": reasoning,
            "completion": words + reasoning}


def _answers(chance, words):
    answers = []
    while not answers or answers[-1].fault in ("status", "drop") and len(answers) < 4:
        answers.append(_answer(chance, words))
    return answers


def _answer(chance, words):
    fault = chance.choice(FAULTS) if chance.random() < 0.25 else "none"
    stalls = {chance.randint(0, words): chance.uniform(0.05, 0.4)} if chance.random() < 0.1 else {}
    return Answer(fault, chance.choice((0, chance.randint(0, words))), stalls)


def prompt_of(plan):
    return f"Please answer <{plan.id}>."
