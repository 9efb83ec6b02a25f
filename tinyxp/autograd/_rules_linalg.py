"""The table, chapter linear algebra: how the functions of `tinyxp.linalg` are differentiated.

The conventions are those of `tinyxp.autograd._rules`. In formulas X^H is the conjugate transpose, and gX the
cotangent of X. They are derived as in M. Giles, "An extended collection of matrix derivative results for
forward and reverse mode algorithmic differentiation" (Oxford, 2008), if no other source is named.

What a decomposition leaves open (the sign or phase of a vector, the basis of an eigenspace or of a complement)
has no derivative: a loss must not depend on it, and its gradient then is right. For this 1 / d is taken to be
0 where d, a singular value or the difference of two values of a spectrum, is lost in rounding. Among equal
eigenvalues it is right to the first order, and if the loss knows the vectors only through the space they span:
what tells equal eigenvalues apart when they part, as V f(w) V^H does, is lost.
"""

from __future__ import annotations

import math
from typing import Any

from tinyxp import dtypes
from tinyxp.autograd._rules import c, define, is_complex
from tinyxp.ops._layout import diagonal_cells

MINORS = 2**22  # elements that the minors of singular matrices may take


# ================================================================ helpers
def _h(xp: Any, a: Any) -> Any:
    """Return the conjugate transpose of each matrix."""
    return xp.matrix_transpose(c(xp, a))


def _row(xp: Any, v: Any) -> Any:
    """Return vectors as matrices of one row: factors of the columns."""
    return xp.expand_dims(v, axis=-2)


def _column(xp: Any, v: Any) -> Any:
    """Return vectors as matrices of one column: factors of the rows."""
    return xp.expand_dims(v, axis=-1)


def _each(xp: Any, v: Any) -> Any:
    """Return one number for each matrix as the factor of all its elements."""
    return xp.reshape(v, (*v.shape, 1, 1))


def _eye(xp: Any, like: Any) -> Any:
    """Return the identity of the size and dtype of the square matrices in `like`."""
    return xp.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def _still(xp: Any, r: Any, *gs: Any) -> Any:
    """Keep the cotangent `r` of a matrix zero where all cotangents `gs` are, even if `r` is not finite."""
    keep = xp.isfinite(r)
    for g in gs:
        axes = tuple(range(len(r.shape) - 2, len(g.shape)))
        keep = keep | _each(xp, xp.any(g != 0, axis=axes))
    return xp.where(keep, r, xp.zeros_like(r))


def _inverse(xp: Any, d: Any, spectrum: Any) -> Any:
    """Return 1 / d, but 0 where d is below the rounding errors of a spectrum.

    These are 4 sqrt(n) units in the last place of its largest value: measured for n up to 300, a multiple
    eigenvalue is computed as several that are less apart.
    """
    n = spectrum.shape[-1]
    if n == 0:
        return d
    top = xp.max(xp.abs(spectrum), axis=-1, keepdims=True)
    if len(d.shape) > len(spectrum.shape):
        top = _column(xp, top)
    lost = xp.abs(d) <= 4 * math.sqrt(n) * dtypes.finfo(dtypes.of(d.dtype)).eps * top
    return xp.where(lost, xp.zeros_like(d), 1 / xp.where(lost, xp.ones_like(d), d))


# ================================================================ determinants, inverses, equations
def _cofactors(xp: Any, x: Any, det: Any) -> Any:
    """Return the matrices of cofactors, det(x) x^-T, which are finite also where `x` is singular."""
    singular = _each(xp, det == 0)
    if not bool(xp.any(singular)):
        return _each(xp, det) * xp.matrix_transpose(xp.linalg.inv(x))
    safe = xp.linalg.inv(xp.where(singular, _eye(xp, x), x))
    n = x.shape[-1]
    small = math.prod(x.shape) * (n - 1) ** 2 <= MINORS
    other = _minors(xp, x) if small else _cofactors_by_svd(xp, x)
    return xp.where(singular, other, _each(xp, det) * xp.matrix_transpose(safe))


def _minors(xp: Any, x: Any) -> Any:
    """Return the cofactors as determinants of minors, which can be differentiated at every matrix."""
    n, lead = x.shape[-1], tuple(x.shape[:-2])
    rest = [j for i in range(n) for j in range(n) if j != i]
    index = xp.asarray(rest, dtype=xp.int64, device=x.device)
    parts = xp.take(xp.take(x, index, axis=-2), index, axis=-1)
    parts = xp.reshape(parts, (*lead, n, n - 1, n, n - 1))
    k = len(lead)
    minors = xp.linalg.det(xp.permute_dims(parts, (*range(k), k, k + 2, k + 1, k + 3)))
    signs = [[1.0 - 2 * ((i + j) % 2) for j in range(n)] for i in range(n)]
    return minors * xp.asarray(signs, dtype=x.dtype, device=x.device)


def _cofactors_by_svd(xp: Any, x: Any) -> Any:
    """Return the cofactors det(U) det(V^H) conj(U E V^H), e_i being the product of the other singular values."""
    u, s, vh = xp.linalg.svd(x)
    one = xp.ones_like(xp.getitem(s, (..., slice(0, 1))))

    def before(values: Any) -> Any:
        rest = xp.getitem(values, (..., slice(0, -1)))
        return xp.concat([one, xp.cumulative_prod(rest, axis=-1)], axis=-1)

    others = before(s) * xp.flip(before(xp.flip(s, axis=-1)), axis=-1)
    phase = xp.linalg.det(u) * xp.linalg.det(vh)
    return _each(xp, phase) * c(xp, xp.matmul(u * _row(xp, others), vh))


def _det(xp: Any, g: Any, out: Any, x: Any) -> Any:
    return _still(xp, _each(xp, g) * c(xp, _cofactors(xp, x, out)), g)


define("linalg.det", _det)


def _slogdet(xp: Any, gs: Any, out: Any, x: Any) -> Any:
    """Return g x^-H, where i Im(conj(sign) gsign) adds to the cotangent of the logarithm."""
    gsign, g = gs
    sign = out[0]
    if is_complex(x):
        g = g + 1j * xp.astype(xp.imag(c(xp, sign) * gsign), x.dtype)
    singular = _each(xp, sign == 0)
    r = _each(xp, g) * _h(xp, xp.linalg.inv(xp.where(singular, _eye(xp, x), x)))
    return _still(xp, xp.where(singular, xp.full_like(r, math.nan), r), g)


define("linalg.slogdet", _slogdet)


def _inv(xp: Any, g: Any, out: Any, _x: Any) -> Any:
    adjoint = _h(xp, out)
    return _still(xp, -xp.matmul(xp.matmul(adjoint, g), adjoint), g)


define("linalg.inv", _inv)


def _solve_right(xp: Any, g: Any, _out: Any, x1: Any, _x2: Any) -> Any:
    vector = len(_x2.shape) == 1
    r = xp.linalg.solve(_h(xp, x1), _column(xp, g) if vector else g)
    r = _still(xp, r, g)
    return xp.squeeze(r, axis=-1) if vector else r


def _solve_left(xp: Any, g: Any, out: Any, x1: Any, _x2: Any) -> Any:
    """Return -x1^-H g out^H."""
    r = _solve_right(xp, g, out, x1, _x2)
    if len(_x2.shape) == 1:
        r, out = _column(xp, r), _column(xp, out)
    return _still(xp, -xp.matmul(r, _h(xp, out)), g)


define("linalg.solve", _solve_left, _solve_right)


def _pinv(xp: Any, g: Any, out: Any, x: Any, _rtol: Any) -> Any:
    """Golub and Pereyra (SIAM J. Numer. Anal. 10, 1973), equation 4.12, for matrices of constant rank."""
    p, ph, gh = out, _h(xp, out), _h(xp, g)
    rows = xp.matmul(gh - xp.matmul(x, xp.matmul(p, gh)), xp.matmul(p, ph))
    columns = xp.matmul(xp.matmul(ph, p), gh - xp.matmul(xp.matmul(gh, p), x))
    return _still(xp, rows + columns - xp.matmul(xp.matmul(ph, g), ph), g)


define("linalg.pinv", _pinv)


# ================================================================ decompositions
def _cholesky(xp: Any, g: Any, out: Any, _x: Any, *, upper: bool) -> Any:
    """I. Murray, arXiv:1602.07527, equation 10; the cotangent is Hermitian as `x` is."""
    lower, g = (_h(xp, out), _h(xp, g)) if upper else (out, g)
    p = xp.tril(xp.matmul(_h(xp, lower), g))
    p = p - p * _eye(xp, p) / 2
    half = xp.linalg.solve(_h(xp, lower), (p + _h(xp, p)) / 2)
    return _still(xp, _h(xp, xp.linalg.solve(_h(xp, lower), _h(xp, half))), g)


define("linalg.cholesky", _cholesky)


def _differences(xp: Any, w: Any) -> Any:
    """Return 1 / (w_j - w_i), 0 where they are equal."""
    return _inverse(xp, _row(xp, w) - _column(xp, w), w)


def _eigh(xp: Any, gs: Any, out: Any, _x: Any) -> Any:
    """Return V (diag(gw) + F o V^H gV) V^H with F_ij = 1 / (w_j - w_i), made Hermitian."""
    (gw, gv), (w, v) = gs, out
    vh = _h(xp, v)
    mid = _differences(xp, w) * xp.matmul(vh, gv) + _column(xp, gw) * _eye(xp, v)
    r = xp.matmul(xp.matmul(v, mid), vh)
    return _still(xp, (r + _h(xp, r)) / 2, gw, gv)


def _eigvalsh(xp: Any, g: Any, _out: Any, x: Any) -> Any:
    """Return V diag(g) V^H; the vectors are computed only now."""
    v = xp.linalg.eigh(x)[1]
    return _still(xp, xp.matmul(v * _row(xp, g), _h(xp, v)), g)


define("linalg.eigh", _eigh)
define("linalg.eigvalsh", _eigvalsh)


def _eig(xp: Any, gs: Any, out: Any, _x: Any) -> Any:
    """Return V^-H (diag(gw) + F o (R - V^H V Re diag(R))) V^H with R = V^H gV, F_ij = 1 / conj(w_j - w_i).

    The term with V^H V keeps the columns of V at length 1.
    """
    (gw, gv), (w, v) = gs, out
    vh = _h(xp, v)
    r = xp.matmul(vh, gv)
    along = xp.astype(xp.real(r), v.dtype) * _eye(xp, v)
    r = r - xp.matmul(xp.matmul(vh, v), along)
    mid = c(xp, _differences(xp, w)) * r + _column(xp, gw) * _eye(xp, v)
    return _still(xp, xp.linalg.solve(vh, xp.matmul(mid, vh)), gw, gv)


define("linalg.eig", _eig)


def _outside(xp: Any, q: Any, gq: Any, inner: Any, k: int) -> Any:
    """Return the part of gQ orthogonal to the first `k` columns of Q, given ``inner`` = Q1^H gQ1.

    If Q has more columns, Q2, these move against the others: the part is Q2 (Q2^H gQ1 - gQ2^H Q1).
    """
    q1, g1 = xp.getitem(q, (..., slice(0, k))), xp.getitem(gq, (..., slice(0, k)))
    if q.shape[-1] == k:
        return g1 - xp.matmul(q1, inner)
    q2, g2 = xp.getitem(q, (..., slice(k, None))), xp.getitem(gq, (..., slice(k, None)))
    return xp.matmul(q2, xp.matmul(_h(xp, q2), g1) - xp.matmul(_h(xp, g2), q1))


def _svd(xp: Any, gs: Any, out: Any, _x: Any, *, full_matrices: bool) -> Any:
    """J. Townsend, "Differentiating the singular value decomposition" (2016), with complex phases.

    With F_ij = 1 / (s_j^2 - s_i^2) and skew(X) = X - X^H, the part inside the spaces of the singular vectors is
    U (F o skew(U^H gU) S + S F o skew(V^H gV) + diag(gs) + i S^-1 Im diag(U^H gU)) V^H.
    """
    (gu, gs_, gvh), (u, s, vh) = gs, out
    v, gv, k = _h(xp, vh), _h(xp, gvh), s.shape[-1]
    inside = (..., slice(0, k))
    u1, v1h = xp.getitem(u, inside), _h(xp, xp.getitem(v, inside))
    left = xp.matmul(_h(xp, u1), xp.getitem(gu, inside))
    right = xp.matmul(v1h, xp.getitem(gv, inside))
    f = _differences(xp, s) * _inverse(xp, _row(xp, s) + _column(xp, s), s)
    eye, si = xp.eye(k, dtype=s.dtype, device=s.device), _inverse(xp, s, s)
    mid = f * (left - _h(xp, left)) * _row(xp, s) + _column(xp, s) * f * (right - _h(xp, right))
    mid = mid + _column(xp, gs_) * eye
    if is_complex(u):
        mid = mid + 1j * xp.astype(xp.imag(left) * eye * _column(xp, si), u.dtype)
    r = xp.matmul(xp.matmul(u1, mid), v1h)
    if _x.shape[-2] > k:
        r = r + xp.matmul(_outside(xp, u, gu, left, k) * _row(xp, si), v1h)
    if _x.shape[-1] > k:
        r = r + xp.matmul(u1, _h(xp, _outside(xp, v, gv, right, k) * _row(xp, si)))
    return _still(xp, r, gu, gs_, gvh)


def _svdvals(xp: Any, g: Any, _out: Any, x: Any) -> Any:
    """Return U diag(g) V^H; the vectors are computed only now."""
    u, _, vh = xp.linalg.svd(x, full_matrices=False)
    return _still(xp, xp.matmul(u * _row(xp, g), vh), g)


define("linalg.svd", _svd)
define("linalg.svdvals", _svdvals)


def _qr(xp: Any, gs: Any, out: Any, _x: Any, *, mode: str) -> Any:
    """S. Walter, "Structured higher-order algorithmic differentiation" (2012), section 2.6, completed.

    The columns of a complete Q beyond those of a tall `x` move against the others. Of a wide x = (X, Y) the
    second part is Q^H-times Y = R2, so that gY = Q gR2 and gQ receives Y gR2^H.
    """
    (gq, gr), (q, r) = gs, out
    m, n = _x.shape[-2:]
    k = min(m, n)
    q1, g = xp.getitem(q, (..., slice(0, k))), xp.getitem(gq, (..., slice(0, k)))
    if q.shape[-1] > k:
        q2, g2 = xp.getitem(q, (..., slice(k, None))), xp.getitem(gq, (..., slice(k, None)))
        g = g - xp.matmul(q2, xp.matmul(_h(xp, g2), q1))
    top, gtop = (xp.getitem(a, (..., slice(0, k), slice(0, k))) for a in (r, gr))
    rest, grest = (xp.getitem(a, (..., slice(0, k), slice(k, None))) for a in (r, gr))
    if n > k:
        g = g + xp.matmul(xp.matmul(q1, rest), _h(xp, grest))
    w = xp.matmul(top, _h(xp, gtop)) - xp.matmul(_h(xp, g), q1)
    below = xp.tril(w, k=-1)
    w = below + _h(xp, below) + xp.astype(xp.real(w), w.dtype) * _eye(xp, w)
    square = _h(xp, xp.linalg.solve(top, _h(xp, g + xp.matmul(q1, w))))
    if n > k:
        square = xp.concat([square, xp.matmul(q1, grest)], axis=-1)
    return _still(xp, square, gq, gr)


define("linalg.qr", _qr)


# ================================================================ norms, diagonals
def _spread(xp: Any, v: Any, x: Any, axis: tuple[int, ...], *, keepdims: bool) -> Any:
    """Return the result of a reduction with its axes back, of length 1."""
    if keepdims:
        return v
    return xp.reshape(v, tuple(1 if a in axis else n for a, n in enumerate(x.shape)))


def _vector_norm(
    xp: Any,
    g: Any,
    out: Any,
    x: Any,
    *,
    axis: tuple[int, ...],
    keepdims: bool,
    ord: float,  # noqa: A002 - the standard's name
) -> Any:
    """Return g x / |x| (|x| / out)^(ord - 1), 0 where x is; the extreme norms share it among equals."""
    g, out = (_spread(xp, v, x, axis, keepdims=keepdims) for v in (g, out))
    if ord == 0:
        return xp.zeros_like(x)
    if ord == 1:
        return g * xp.sign(x)
    size = xp.abs(x)
    if math.isinf(ord):
        hit = xp.astype(
            size == (xp.max if ord > 0 else xp.min)(size, axis=axis, keepdims=True), g.dtype
        )
        return g * xp.sign(x) * (hit / xp.sum(hit, axis=axis, keepdims=True))
    zero = out == 0
    out = xp.where(zero, xp.ones_like(out), out)
    direction = g * xp.where(zero, xp.zeros_like(x), x / out)
    if ord == 2:  # noqa: PLR2004 - the one that is smooth where single elements are 0
        return direction
    zero = size == 0
    ratio = xp.where(zero, xp.ones_like(size), size) / out
    return xp.where(zero, xp.zeros_like(x), direction * ratio ** (ord - 2))


define("linalg.vector_norm", _vector_norm)


def _diagonal(xp: Any, g: Any, _out: Any, _x: Any, offset: int) -> Any:
    *lead, m, n = _x.shape
    cells = diagonal_cells(m, n, offset)
    return xp.reshape(xp.unindex(g, (..., cells), (*lead, m * n)), _x.shape)


define("linalg.diagonal", _diagonal)
