"""Threads that work through one compiled program together, without the interpreter's lock in between.

A *program* consists of phases, a phase of items. Each thread has a share of the items of a phase, which it takes first:
what it has written in one phase is still in its cache in the next. Then it takes from the shares of the others. A phase
may begin when all items of the one before are finished. The caller goes through all phases itself, and is never made to
wait for a thread that has taken nothing: helpers may come late, or not at all. All read and write a *board*, an array of
int64:

====================  =============================================================
``DONE``, ``ASKED``    for kernels that are called from Python, see `tinyxp_numpy._pool`
``_RUN``               the number of the program that runs, 0 for none; how many shares there are; for how many
                      nanoseconds the caller has waited; how many helpers came
``_PROGRAM``           the addresses of its code, its table of integers and its table of reals
``_OWNER``             whether a caller uses the board
``_FINISHED`` + 8 p    how many items of phase p are finished
``_TICKETS`` + …       for each phase and share, the program's number and how many items are taken; 0 while nothing runs
====================  =============================================================

Numbers never come back, and tickets are void before anything else of the board changes. So a helper that was interrupted
for so long that another program runs by now cannot take an item by mistake: it compares the number when it takes one.
"""

from __future__ import annotations

import os
import time
from platform import machine
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from ._compile import address, inline, plain_kernel

__all__ = [
    "ASKED",
    "DONE",
    "ITEMS",
    "board_for",
    "finish",
    "lead",
    "look",
    "serve",
    "settle",
    "take",
]

PHASES = 4  # at most
DONE, ASKED, _RUN, _PROGRAM, _OWNER, _FINISHED = 0, 8, 16, 24, 32, 40  # in cache lines of their own
_TICKETS = _FINISHED + 8 * PHASES
ITEMS = 1 << 26  # more than a phase has; so numbers of programs stay below 1 << 37
_TAKEN = 200_000  # nanoseconds: who gets its core back that late has given it to another program
_SPINS = 1000  # looks before a waiting thread offers its core to others

_SIGNED = types.int64


# ---------------------------------------------------------------- what LLVM has and Numba does not
def _place(context: Any, builder: Any, kind: Any, board: Any, slot: Any) -> Any:
    if isinstance(kind, types.Array):
        board = make_array(kind)(context, builder, board).data
    return builder.gep(board, [slot])


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _read(typingctx: Any, board: Any, slot: Any) -> Any:
    """Return an element of the board as it is now."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], *args)
        return builder.load_atomic(place, "seq_cst", 8)

    return _SIGNED(board, _SIGNED), codegen


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _write(typingctx: Any, board: Any, slot: Any, value: Any) -> Any:
    """Set an element of the board; what was written before is seen by who reads it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], *args[:2])
        builder.store_atomic(args[2], place, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(board, _SIGNED, _SIGNED), codegen


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _add(typingctx: Any, board: Any, slot: Any, value: Any) -> Any:
    """Add to an element of the board; return what it was."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], *args[:2])
        return builder.atomic_rmw("add", place, args[2], "seq_cst")

    return _SIGNED(board, _SIGNED, _SIGNED), codegen


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _exchange(typingctx: Any, board: Any, slot: Any, old: Any, new: Any) -> Any:
    """Set an element of the board if it is `old`; say whether it was."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, signature.args[0], *args[:2])
        found = builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(board, _SIGNED, _SIGNED, _SIGNED), codegen


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _pause(typingctx: Any) -> Any:
    """Tell the processor that this thread is waiting, where it has a word for that."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if machine() in {"x86_64", "AMD64"}:
            kind = ir.FunctionType(ir.VoidType(), [])
            name = "llvm.x86.sse2.pause"
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _now(typingctx: Any) -> Any:
    """Return nanoseconds of a clock that is never set; always 0 where the system has no POSIX clock."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i32, i64 = ir.IntType(32), ir.IntType(64)
        if not hasattr(time, "clock_gettime"):
            return i64(0)
        place = cgutils.alloca_once(builder, ir.ArrayType(i64, 2))
        kind = ir.FunctionType(i32, [i32, cgutils.voidptr_t])
        function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
        clock = i32(time.CLOCK_MONOTONIC)
        builder.call(function, [clock, builder.bitcast(place, cgutils.voidptr_t)])
        seconds, rest = (builder.extract_value(builder.load(place), i) for i in range(2))
        return builder.add(builder.mul(seconds, i64(1_000_000_000)), rest)

    return _SIGNED(), codegen


@intrinsic  # type: ignore[untyped-decorator]  # typed in some releases of Numba only
def _enter(
    typingctx: Any, program: Any, board: Any, table: Any, reals: Any, run: Any, member: Any
) -> Any:
    """Call the code at the address `program`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        i64, at = ir.IntType(64), cgutils.voidptr_t
        kind = ir.FunctionType(ir.VoidType(), [at, at, at, i64, i64])
        board = builder.bitcast(make_array(signature.args[1])(context, builder, args[1]).data, at)
        tables = [builder.inttoptr(x, at) for x in args[2:4]]
        function = builder.inttoptr(args[0], kind.as_pointer())
        builder.call(function, [board, *tables, *args[4:]])
        return context.get_dummy_value()

    return types.void(_SIGNED, board, *(_SIGNED,) * 4), codegen


if hasattr(os, "sched_yield"):
    _yield_core = types.ExternalFunction("sched_yield", types.int32())  # of the C library
else:

    @njit
    def _yield_core() -> None:
        _pause()


# ---------------------------------------------------------------- inside a program
@inline
def take(board: Any, phase: int, items: int, run: int, member: int) -> int:
    """Return one of so many items of a phase, -1 if there is none or the program is over."""
    shares: int = _read(board, _RUN + 1)
    for i in range(shares):
        share = (member + i) % shares
        slot = _TICKETS + 8 * (phase * shares + share)
        first, last = items * share // shares, items * (share + 1) // shares
        while True:
            ticket = _read(board, slot)
            item: int = first + ticket % ITEMS
            if ticket // ITEMS != run or item >= last:
                break
            if _exchange(board, slot, ticket, ticket + 1):
                return item
    return -1


@inline
def finish(board: Any, phase: int) -> None:
    """Say that an item of a phase is finished."""
    _add(board, _FINISHED + 8 * phase, 1)


@inline
def settle(board: Any, phase: int, items: int, run: int, member: int) -> bool:
    """Wait until so many items of a phase are finished; say whether the program still runs."""
    slot, looks = _FINISHED + 8 * phase, 0
    if _read(board, slot) == items:
        return True
    begin = _now()
    while _read(board, slot) != items:
        if _read(board, _RUN) != run:
            return False
        looks += 1
        if looks > _SPINS:
            _yield_core()
        else:
            _pause()
    if member == 0:
        _add(board, _RUN + 2, _now() - begin)
    return True


# ---------------------------------------------------------------- around programs
def board_for(shares: int) -> Any:
    """Return a board for programs with up to so many shares."""
    return np.zeros(_TICKETS + 8 * PHASES * shares, np.int64)


@plain_kernel
def lead(
    board: Any, run: int, shares: int, program: int, table: Any, reals: Any, given: Any, numbers: Any
) -> tuple[int, int, int]:  # fmt: skip
    """Run the program at the address `program`, with those who look at the board, until all is finished.

    Items are divided into so many shares, at most as many as the board was made for. Return how many nanoseconds it
    took, how many of them were spent waiting for others, and how many others came; or -1 and nothing done, where the board
    is used by another caller.

    `given` and `numbers` are copied to `table` and `reals`: those stay where they are for helpers that come late.
    """
    if not _exchange(board, _OWNER, 0, 1):
        return -1, 0, 0
    for i in range(given.size):
        table[i] = given[i]
    for i in range(numbers.size):
        reals[i] = numbers[i]
    _write(board, _PROGRAM, program)
    _write(board, _PROGRAM + 1, address(table))
    _write(board, _PROGRAM + 2, address(reals))
    begin = _now()
    _write(board, _RUN + 1, shares)
    _write(board, _RUN + 2, 0)
    _write(board, _RUN + 3, 0)
    for phase in range(PHASES):
        _write(board, _FINISHED + 8 * phase, 0)
        for share in range(shares):
            _write(board, _TICKETS + 8 * (phase * shares + share), run * ITEMS)
    _write(board, _RUN, run)
    _enter(program, board, address(table), address(reals), run, 0)
    _write(board, _RUN, 0)
    # A helper that comes back now reads the next program's table, or how many shares that has: no ticket may fit.
    for slot in range(PHASES * shares):
        _write(board, _TICKETS + 8 * slot, 0)
    used = _now() - begin, _read(board, _RUN + 2), _read(board, _RUN + 3)
    _write(board, _OWNER, 0)
    return used


@plain_kernel
def serve(board: Any, member: int, done: int, asked: int, looks: int, away: int) -> bool:
    """Help with programs; return True when a kernel is asked for, False after so many looks at nothing.

    Also return False where another program wants the core: who goes on looking there counts as one that wants it too,
    and gets it instead of the thread that has work.

    First say that the kernel with the number `done` is finished, if that is not 0. A thread that was asked for a
    kernel stays away from the interpreter's lock for as long as `away` looks take.
    """
    if done != 0:
        _write(board, DONE, done)
    last, left = 0, looks
    before: int = _now()
    while left > 0:
        run = _read(board, _RUN)
        if run not in (0, last):
            code = _read(board, _PROGRAM)
            table, reals = _read(board, _PROGRAM + 1), _read(board, _PROGRAM + 2)
            if _read(board, _RUN) == run:  # else another is being written down
                _add(board, _RUN + 3, 1)
                _enter(code, board, table, reals, run, member)
            last, left, before = run, looks, _now()
            continue
        if _read(board, ASKED) != asked:
            for _ in range(away):
                _yield_core()
            return True
        _yield_core()
        left -= 1
        now = _now()
        if now - before > _TAKEN:
            return False
        before = now
    return False


@plain_kernel
def look(board: Any, slot: int, seen: int, times: int) -> None:
    """Look `times` at a slot of the board until it is not `seen` any more."""
    for _ in range(times):
        if _read(board, slot) != seen:
            return
        _yield_core()
