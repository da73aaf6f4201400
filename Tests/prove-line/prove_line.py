#!/usr/bin/env python3
"""Shows with real processes how head office's line stands up to many branches, to idle strangers, and to a poor line.

    scripts/prove-line [crowd] [return] [slow] [--branches 200] [--changes 100] [--strangers 500] [--kbit 64] [--cuts 20]

crowd   20 branches synchronise in turn, without and with strangers that open connections and dribble: medians of both
return  all branches have changes and synchronise at once: how long each takes, and what head office needs
slow    a branch sends rows over a line of so many kbit/s with 600 ms of delay that is cut so many times

Each prints what it saw, and ends the script with 1 when something is not as promised.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import random
import resource
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

failures = []


def check(is_good, sentence):
    print(("  good  " if is_good else "  BAD   ") + sentence, flush=True)
    if not is_good:
        failures.append(sentence)


class Organisation:
    """A head office that runs, and branches that have joined it."""

    def __init__(self, program):
        self.program = program
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="peyvand-line-"))
        self.head_office = self.directory / "hq"
        self.run("init", "--role", "head-office", "--name", "hq", "--listen", "127.0.0.1:0", data=self.head_office)
        self.log = open(self.directory / "hq.log", "w")
        self.process = subprocess.Popen(
            [program, "run", "--data", str(self.head_office)], stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.port = None
        while self.port is None:
            with open(self.directory / "hq.log") as log:
                for line in log:
                    if "listens on" in line:
                        self.port = int(line.rsplit(":", 1)[1].strip().rstrip("."))
            if self.process.poll() is not None:
                raise SystemExit("Head office did not start: " + (self.directory / "hq.log").read_text())
            time.sleep(0.05)

    def run(self, *arguments, data, text=None, may_warn=False):
        done = subprocess.run(
            [self.program, *arguments, "--data", str(data)], input=text, capture_output=True, text=True
        )
        # `status` ends with 1 where there is something to say.
        if done.returncode and not may_warn:
            raise SystemExit(f"peyvand {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def join(self, name, port=None):
        address = f"127.0.0.1:{port or self.port}"
        invitation = self.run("enroll", name, "--address", address, data=self.head_office).strip()
        branch = self.directory / name
        self.run("init", "--role", "branch", "--join", invitation, data=branch)
        return branch

    def write(self, branch, count, start=0):
        rows = "".join(
            json.dumps({"op": "put", "table": "customer", "set": {"name": f"مشتری {branch.name} {start + number}"}}) + "\n"
            for number in range(count)
        )
        self.run("write", "--jsonl", "-", data=branch, text=rows)

    def sync(self, branch, check_result=True):
        """Synchronises once: seconds, and what the command says."""
        begin = time.monotonic()
        done = subprocess.run(
            [self.program, "sync", "--json", "--data", str(branch), "--hub", f"127.0.0.1:{self.port}"],
            capture_output=True,
            text=True,
        )
        took = time.monotonic() - begin
        told = json.loads(done.stdout) if done.stdout.strip() else {"result": "failed", "reason": done.stderr}
        if check_result and told["result"] != "ok":
            raise SystemExit(f"{branch.name} could not synchronise: {told}")
        return took, told

    def memory(self, what="VmHWM"):
        """MiB that head office holds, or held at most."""
        with open(f"/proc/{self.process.pid}/status") as status:
            for line in status:
                if line.startswith(what + ":"):
                    return int(line.split()[1]) / 1024
        return 0

    def rows(self, node):
        return sorted(self.run("dump", data=node).splitlines())

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory)


class Strangers:
    """Connections that never say who they are: half send nothing, half a byte of a greeting now and then."""

    def __init__(self, port, count):
        self.port, self.count, self.is_over, self.open = port, count, threading.Event(), 0
        self.thread = threading.Thread(target=self.stay, daemon=True)
        self.ready = threading.Event()
        self.thread.start()
        self.ready.wait()

    def connect(self):
        line = socket.socket()
        line.settimeout(5)
        line.connect(("127.0.0.1", self.port))
        line.setblocking(False)
        return line

    def stay(self):
        # The beginning of a ClientHello (RFC 8446, section 4.1.2) that would be 512 bytes long.
        greeting = bytes([0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3])
        lines = {}
        while not self.is_over.is_set():
            # Whoever was sent away comes back, a few at a time.
            for _ in range(min(self.count - len(lines), 25)):
                try:
                    lines[self.connect()] = 0
                except OSError:
                    break
            if len(lines) == self.count:
                self.ready.set()
            if lines:
                for line in select.select(list(lines), [], [], 0)[0] if len(lines) < 1000 else []:
                    try:
                        if line.recv(1):
                            continue
                    except OSError:
                        pass
                    del lines[line]
                    line.close()
            for number, line in enumerate(list(lines)):
                if number % 2 and random.random() < 0.1 and lines[line] < len(greeting):
                    try:
                        line.send(greeting[lines[line]:lines[line] + 1])
                        lines[line] += 1
                    except OSError:
                        pass
            self.open = len(lines)
            if len(lines) >= self.count * 0.5 and not self.ready.is_set():
                self.ready.set()
            time.sleep(0.1)
        for line in lines:
            line.close()

    def end(self):
        self.is_over.set()
        self.thread.join()


def crowd(program, options):
    print(f"\n{options.strangers} strangers, 20 branches", flush=True)
    office = Organisation(program)
    branches = [office.join(f"branch-{number}") for number in range(20)]

    def median_of_rounds(first):
        times = []
        for turn in range(options.rounds):
            for branch in branches:
                office.write(branch, 5, (first + turn) * 5)
                times.append(office.sync(branch)[0])
        return statistics.median(times), max(times)

    median_of_rounds(0)
    before, memory_before = median_of_rounds(1), office.memory("VmRSS")
    strangers = Strangers(office.port, options.strangers)
    beside, memory_beside = median_of_rounds(1 + options.rounds), office.memory("VmRSS")
    opened = strangers.open
    strangers.end()
    after = median_of_rounds(1 + 2 * options.rounds)
    print(f"  {opened} connections of strangers were open at the end")
    for name, (median, slowest) in (("without", before), ("beside", beside), ("afterwards", after)):
        print(f"  {name:11} median {median * 1000:6.0f} ms   slowest {slowest * 1000:6.0f} ms")
    quiet = max(before[0], after[0]) if before[0] > after[0] else (before[0] + after[0]) / 2
    ratio = beside[0] / quiet
    check(ratio <= 1.2, f"the median beside strangers is {ratio:.2f} of that without (at most 1.2)")
    print(f"  head office: {memory_before:.0f} MiB without, {memory_beside:.0f} MiB beside them")
    check(memory_beside - memory_before <= 64, f"{memory_beside - memory_before:.0f} MiB more (at most 64)")
    office.end()


def come_back(program, options):
    print(f"\n{options.branches} branches come back at once, each with {options.changes} changes", flush=True)
    office = Organisation(program)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        branches = list(pool.map(lambda number: office.join(f"branch-{number}"), range(options.branches)))
        list(pool.map(lambda branch: office.write(branch, options.changes), branches))
    print(f"  all have joined and written; head office holds {office.memory('VmRSS'):.0f} MiB", flush=True)
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.branches) as pool:
        results = list(pool.map(lambda branch: office.sync(branch, check_result=False), branches))
    took = time.monotonic() - begin
    turned_away = [branch for branch, (_, told) in zip(branches, results) if told["result"] != "ok"]
    times = sorted(seconds for seconds, _ in results)
    print(f"  {took:.1f} s in all; a branch took {times[0]:.1f} to {times[-1]:.1f} s, median {statistics.median(times):.1f} s")
    print(f"  head office held {office.memory():.0f} MiB at most")
    check(not turned_away, f"{len(turned_away)} of {options.branches} had to come again")
    for branch in branches:
        office.sync(branch)
    expected = office.rows(office.head_office)
    customers = sum('"table":"customer"' in row for row in expected)
    check(customers == options.branches * options.changes, f"head office has {customers} customers")
    different = [branch.name for branch in branches if office.rows(branch) != expected]
    check(not different, f"{len(different)} branches differ from head office afterwards")
    office.end()


class PoorLine(threading.Thread):
    """A relay on loopback with a rate and a delay each way, which can be cut; it counts what passes."""

    def __init__(self, port, kbit, delay):
        super().__init__(daemon=True)
        self.far, self.bytes_per_second, self.delay = port, kbit * 125, delay
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.passed = [0, 0]
        self.must_cut, self.is_over = threading.Event(), threading.Event()
        self.start()

    def run(self):
        while not self.is_over.is_set():
            if not select.select([self.listener], [], [], 0.1)[0]:
                self.must_cut.clear()
                continue
            near, _ = self.listener.accept()
            far = socket.create_connection(("127.0.0.1", self.far))
            self.carry([near, far])

    def carry(self, ends):
        for end in ends:
            # What waits in the relay is small, as in a modem.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        waiting = [collections.deque(), collections.deque()]
        free_at, is_open = [0.0, 0.0], [True, True]
        while any(is_open) or any(waiting):
            if self.must_cut.is_set() or self.is_over.is_set():
                self.must_cut.clear()
                break
            now = time.monotonic()
            readable = [end for side, end in enumerate(ends) if is_open[side] and free_at[side] < now + 0.25]
            for end in select.select(readable, [], [], 0.01)[0] if readable else ([], time.sleep(0.01))[0]:
                side = ends.index(end)
                try:
                    data = end.recv(1024)
                except OSError:
                    data = b""
                if not data:
                    is_open[side] = False
                free_at[side] = max(free_at[side], now) + len(data) / self.bytes_per_second
                waiting[side].append((free_at[side] + self.delay, data))
            for side in (0, 1):
                while waiting[side] and waiting[side][0][0] <= time.monotonic():
                    data = waiting[side].popleft()[1]
                    try:
                        if data:
                            ends[1 - side].sendall(data)
                            self.passed[side] += len(data)
                        else:
                            ends[1 - side].shutdown(socket.SHUT_WR)
                    except OSError:
                        is_open = [False, False]
        for end in ends:
            end.close()

    def end(self):
        self.is_over.set()
        self.join()
        self.listener.close()


def slow(program, options):
    print(f"\n{options.rows} rows over {options.kbit} kbit/s with 600 ms of delay, cut {options.cuts} times", flush=True)
    office = Organisation(program)

    def measure(cuts, name):
        branch = office.join(name)
        office.write(branch, options.rows)
        line = PoorLine(office.port, options.kbit, 0.6)
        with open(branch / "peyvand.toml", "a") as settings:
            settings.write(f'hub = "127.0.0.1:{line.port}"\n')
        with open(office.directory / f"{name}.log", "w") as log:
            process = subprocess.Popen(
                [program, "run", "--data", str(branch)], stdout=subprocess.DEVNULL, stderr=log
            )
            begin = time.monotonic()
            done, next_cut = 0, random.Random(1).uniform(3, 6)
            chance = random.Random(2)
            while True:
                time.sleep(0.2)
                status = json.loads(office.run("status", "--json", data=branch, may_warn=True))
                elapsed = time.monotonic() - begin
                if status["ahead"]["changeSets"] == 0 and done >= cuts:
                    break
                if done < cuts and elapsed > next_cut:
                    line.must_cut.set()
                    done += 1
                    next_cut = elapsed + chance.uniform(3, 6)
                if elapsed > 1800:
                    break
            took = time.monotonic() - begin
            passed = sum(line.passed)
            process.send_signal(signal.SIGTERM)
            process.wait()
        line.end()
        return branch, took, passed, done

    whole, took_whole, passed_whole, _ = measure(0, "whole")
    print(f"  without a cut: {took_whole:.1f} s, {passed_whole / 1024:.1f} KiB on the line", flush=True)
    cut, took, passed, cuts = measure(options.cuts, "cut")
    print(f"  with {cuts} cuts: {took:.1f} s, {passed / 1024:.1f} KiB on the line", flush=True)
    # A batch begins with 128 KiB, which are some 45 KiB compressed; a handshake is some 3 KiB.
    extra = (passed - passed_whole) / max(cuts, 1) / 1024
    check(extra <= 48, f"{extra:.1f} KiB more for each cut, handshakes counted (at most a first batch and a handshake, 48)")
    office.sync(cut)
    office.sync(whole)
    check(office.rows(cut) == office.rows(office.head_office), "the branch and head office are equal")
    office.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", choices=[[], "crowd", "return", "slow"], help="all of them, unless some are named")
    parser.add_argument("--program", required=True, help="peyvand")
    parser.add_argument("--branches", type=int, default=200)
    parser.add_argument("--changes", type=int, default=100)
    parser.add_argument("--strangers", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--kbit", type=float, default=64)
    parser.add_argument("--cuts", type=int, default=20)
    options = parser.parse_args()
    program = options.program
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    works = {"crowd": crowd, "return": come_back, "slow": slow}
    for name in options.work or works:
        works[name](program, options)
    print()
    if failures:
        sys.exit("Not as promised: " + "; ".join(failures))
    print("All as promised.")


if __name__ == "__main__":
    main()
