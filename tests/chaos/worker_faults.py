"""What happens to workers: killed, frozen, and coming and going all the time."""

from __future__ import annotations

import time

from stage import SESSION_SECONDS, NoProof, Proof, Stage


def kill_worker(stage: Stage) -> Proof:
    worker = stage.a_worker()
    return {"killed": worker.name, "pid": worker.kill()}


def kill_all_workers(stage: Stage) -> Proof:
    pids = [worker.kill() for worker in stage.workers if worker.runs()]
    if not pids:
        raise NoProof("no worker ran")
    return {"pids": pids}


def freeze_worker(stage: Stage) -> Proof:
    """Shorter than the session, or longer: then others have its lanes when it wakes up and goes on where it was."""
    worker, before = stage.a_worker(), stage.epochs()
    worker.freeze()
    seconds = stage.pause(1, 2 * SESSION_SECONDS)
    claims = stage.epochs() - before
    worker.thaw()
    if seconds > SESSION_SECONDS + 5 and not claims:
        raise NoProof(f"{worker.name} was frozen for {seconds:.0f} s and nobody claimed its lanes")
    return {"frozen": worker.name, "seconds": round(seconds, 1), "claims meanwhile": claims}


def storm(stage: Stage) -> Proof:
    """Workers come and go every two seconds."""
    words = "the group rebalances"
    before, claims = sum(worker.logged(words) for worker in stage.workers), stage.epochs()
    rounds = stage.dice.randint(5, 9)
    for _ in range(rounds):
        stage.extra += 1
        worker = stage.start_worker(f"guest-{stage.extra}")
        time.sleep(2)
        # One that says nothing holds up the group until it is missed: then nobody comes for some time.
        if stage.dice.random() < 0.2:
            stage.fleet.remove(worker)
            worker.kill()
        elif worker.stop(30) != 0:
            raise NoProof(f"{worker.name} did not end well: {worker.last_words()}")
    rebalances = sum(worker.logged(words) for worker in stage.workers) - before
    if not rebalances:
        raise NoProof("workers came and went, and the group did not move")
    return {"workers": rounds, "rebalances": rebalances, "claims": stage.epochs() - claims}
