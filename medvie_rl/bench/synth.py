"""How many synthetic documents one core draws in a second."""

import time

from medvie_rl.bench.types import Result

_NUM_DOCUMENTS = 24


def bench_synth() -> Result:
    """Documents at 150 dpi of all kinds with mixed noise: composed, laid out, drawn, degraded and encoded."""
    import cv2

    from medvie_rl.data.synth.generate import draw_document
    from medvie_rl.data.synth.kinds import KINDS, LANGUAGES

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    kinds = list(KINDS)
    jobs = [(kinds[number % len(kinds)], number // len(kinds)) for number in range(_NUM_DOCUMENTS)]
    draw_document(kinds[0], seed=1, index=0, language=LANGUAGES[kinds[0]][0])  # loads the fonts
    num_pages, start = 0, time.perf_counter()
    for kind, index in jobs:
        num_pages += len(draw_document(kind, seed=0, index=index, language=LANGUAGES[kind][0]).pages)
    elapsed = time.perf_counter() - start
    cv2.setNumThreads(threads)
    return Result(
        name="synth_documents_per_s",
        value=_NUM_DOCUMENTS / elapsed,
        unit="documents/s per core, A4 at 150 dpi",
        better="higher",
        compared_with=f"{num_pages / elapsed:.3g} pages/s, {len(kinds)} kinds in turn",
    )
