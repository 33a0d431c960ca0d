"""Builds the nano policy from nothing: `medvie nano build --out DIR` is the recipe of the shipped weights.

Stages: name the characters in the cells of practice strips; copy strips of two lines, then of six; answer queries
about whole slips in the schema's conventions, which teaches reading; answer them in mixed conventions (see `corpus`),
which makes the base that reinforcement learning mends. AdamW, the learning rate falling along a cosine within each
stage. Everything is seeded, and lengths are counted in steps.
"""

import math
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from medvie_rl.data.prompts import PromptTemplate, load_prompt_template
from medvie_rl.data.synthetic import draw_slips
from medvie_rl.data.vocabulary import SEEN, WORD_LISTS, pseudo_word
from medvie_rl.nano.batches import BatchMaker, Stage
from medvie_rl.nano.corpus import CLEAN, MIXTURE, draw_behaviour, draw_keys, write_response
from medvie_rl.nano.model import build_policy, build_processor, save_policy
from medvie_rl.nano.tokenizer import train_tokenizer
from medvie_rl.nano.training import Losses, Trainee
from medvie_rl.policy_card import PolicyCard
from medvie_rl.progress import UNSEEN, Progress
from rewards.schema import Schema, load_schema

CONF = Path(__file__).resolve().parents[2] / "conf"
PROMPT = CONF / "prompts" / "nano.yaml"
CARD = PolicyCard(  # how conf/local.yaml asks it, so that nobody else has to say
    run="nano",
    step=0,
    reasoning=True,
    rollout={"temperature": 0.8, "max_response_tokens": 256, "max_model_len": 512, "kv_cache_gib": 0.5},
)
SLIP_SCHEMAS = ("prescription_slip", "laboratory_slip", "visit_slip", "vaccination_slip")
_TOKENIZER_SLIPS = 4000
_TOKENIZER_SEED = 1  # its slips are others than those of the batches
_THREADS = 2
_LOG_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stage of the recipe: `steps` batches, the learning rate falling from `rate` to `last_rate` along a cosine."""

    name: str
    steps: int
    rate: float
    last_rate: float
    stage: Stage
    vision_rate: float = 0.3  # learning rate of the vision tower, as a share of `rate`
    warmup: int = 20
    guide: float = 0.5  # weights of the helpers' losses
    characters: float = 0.5
    places: float = 0.1


RECIPE = (
    Part(
        name="see",
        steps=1500,
        rate=2e-3,
        last_rate=5e-4,
        vision_rate=1.0,
        stage=Stage(images=8, queries=0, practice=True, lines=3),
    ),
    Part(name="copy-2", steps=500, rate=2e-3, last_rate=2e-3, stage=Stage(images=12, practice=True, lines=2)),
    Part(name="copy-6", steps=350, rate=2e-3, last_rate=1.5e-3, stage=Stage(images=4, practice=True)),
    Part(
        name="clean",
        steps=850,
        rate=2e-3,
        last_rate=1.2e-3,
        stage=Stage(images=4, queries=3, reasoning=0.75, mixture=CLEAN),
    ),
    Part(
        name="clean-2",
        steps=850,
        rate=1.5e-3,
        last_rate=1e-3,
        stage=Stage(images=6, queries=3, reasoning=0.7, mixture=CLEAN),
    ),
    Part(name="mixed", steps=450, rate=1e-3, last_rate=3e-5, stage=Stage(images=6, queries=3)),
)


def build_nano(
    out: Path,
    *,
    seed: int = 0,
    recipe: Sequence[Part] = RECIPE,
    work: Path | None = None,
    after: str = "",
    progress: Progress = UNSEEN,
) -> None:
    """Train and write the policy. `work` keeps a checkpoint of every stage; `after` continues behind one of them."""
    torch.set_num_threads(_THREADS)
    schemas, template = load_slip_schemas(), load_prompt_template(PROMPT)
    tokenizer = train_tokenizer(list(_tokenizer_texts(schemas, template)))
    processor = build_processor(tokenizer)
    trainee = Trainee(build_policy(tokenizer, seed))
    first = 0
    if after:
        first = [part.name for part in recipe].index(after) + 1
        trainee.load_state_dict(torch.load(_checkpoint(work, after), weights_only=True))
    progress.begin(sum(part.steps for part in recipe[first:]))
    for index, part in enumerate(recipe[first:], start=first):
        maker = BatchMaker(processor, schemas, template, seed=1000 * (seed + 1) + index)
        train_part(trainee, maker, part, log=lambda line: print(line, flush=True), progress=progress)
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)
            torch.save(trainee.state_dict(), _checkpoint(work, part.name))
    save_policy(trainee.policy, processor, out, dtype=torch.bfloat16)
    CARD.write(out, PROMPT)


def train_part(
    trainee: Trainee, maker: BatchMaker, part: Part, *, log: Callable[[str], None], progress: Progress = UNSEEN
) -> None:
    """Run one stage; raises FloatingPointError when the loss is not finite."""
    vision = list(trainee.policy.model.visual.parameters())
    seeing = {id(parameter) for parameter in vision}
    rest = [parameter for parameter in trainee.parameters() if id(parameter) not in seeing]
    groups = [{"params": vision, "lr": part.rate * part.vision_rate}, {"params": rest}]
    optimizer = torch.optim.AdamW(groups, lr=part.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(part, step) / part.rate)
    started, sums = time.monotonic(), torch.zeros(4)
    for step in progress.each(range(1, part.steps + 1)):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=_has_fast_bfloat16()):
            losses = _losses(trainee, maker, part.stage)
        loss = (
            losses.answer
            + part.guide * losses.guide
            + part.characters * losses.characters
            + part.places * losses.places
        )
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"nano: the loss of stage '{part.name}' is {loss.item()} at step {step}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        sums += torch.stack([losses.answer, losses.guide, losses.characters, losses.places]).detach().float()
        if step % _LOG_EVERY == 0 or step == part.steps:
            answer, guide, characters, places = (sums / ((step - 1) % _LOG_EVERY + 1)).tolist()
            log(
                f"{part.name} {step}/{part.steps} answer {answer:.3f} guide {guide:.3f} "
                f"characters {characters:.3f} places {places:.3f} {time.monotonic() - started:.0f} s"
            )
            sums.zero_()


def _losses(trainee: Trainee, maker: BatchMaker, stage: Stage) -> Losses:
    if stage.queries:
        losses: Losses = trainee(maker.draw(stage))
        return losses
    patches, characters = maker.draw_images(stage)
    zero = torch.zeros(())
    seen = trainee.character_loss(trainee.see(patches), characters)
    return Losses(answer=zero, guide=zero, characters=seen, places=zero)


def load_slip_schemas() -> dict[str, Schema]:
    """The schemas of the synthetic slips by name."""
    return {name: load_schema(CONF / "schemas" / f"{name}.yaml") for name in SLIP_SCHEMAS}


def _rate(part: Part, step: int) -> float:
    if step < part.warmup:
        return part.rate * (step + 1) / part.warmup
    done = (step - part.warmup) / max(part.steps - part.warmup, 1)
    return part.last_rate + (part.rate - part.last_rate) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _tokenizer_texts(schemas: Mapping[str, Schema], template: PromptTemplate) -> Iterator[str]:
    """Prompts and responses with made-up words in place of listed ones: tokens are syllables, not known names."""
    rng = random.Random("nano tokenizer")
    listed = {word.lower() for words in WORD_LISTS.values() for entry in words.parts[SEEN] for word in entry.split()}

    def disguise(match: re.Match[str]) -> str:
        word = match[0]
        if word.lower() not in listed:
            return word
        return pseudo_word(rng).upper() if word.isupper() else pseudo_word(rng)

    for slip in draw_slips("pretrain", _TOKENIZER_SLIPS, seed=_TOKENIZER_SEED):
        schema = schemas[slip.schema]
        keys = draw_keys(schema, slip, rng, whole=0.35)
        reasoning = rng.random() < 0.6
        response = write_response(slip, keys, draw_behaviour(MIXTURE, rng), rng, reasoning=reasoning).text
        response = response.replace("<think>", "").replace("</think>", " ")
        yield f"user\n{template.user_text(schema, keys, reasoning=reasoning)}\nassistant\n"
        yield re.sub(r"[^\W\d_]+", disguise, response)


def _has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices natively; elsewhere float32 is faster."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def _checkpoint(work: Path | None, name: str) -> Path:
    if work is None:
        raise ValueError(f"continuing after stage '{name}' needs the work folder that holds its checkpoint")
    return work / f"{name}.pt"
