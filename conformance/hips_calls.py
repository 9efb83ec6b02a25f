"""The functions that HIPS autograd differentiates, and the call that does the same here.

A line is ``call of autograd -> call of tinyxp``, with ``# real`` where autograd's derivative, or the function,
is for real numbers only. Lower-case names are arrays of which the gradient is compared, upper-case names arrays of which
it is not: `hips.ARRAYS` has them all. In autograd's calls ``np``, ``la``, ``fft``, ``special``, ``sla``,
``signal``, ``stats`` and ``integrate`` are its modules; here ``xp`` is tinyxp, ``sp`` tinyxp.special and
``math`` Python's.
"""

from __future__ import annotations

ELEMENTWISE = """
np.add(x, y) -> xp.add(x, y)
np.subtract(x, y) -> xp.subtract(x, y)
np.multiply(x, y) -> xp.multiply(x, y)
np.divide(x, y) -> xp.divide(x, y)
np.power(p, y) -> xp.pow(p, y)
np.remainder(x, q) -> xp.remainder(x, q)  # real
np.maximum(x, y) -> xp.maximum(x, y)  # real
np.minimum(x, y) -> xp.minimum(x, y)  # real
np.fmax(x, y) -> xp.maximum(x, y)  # real
np.fmin(x, y) -> xp.minimum(x, y)  # real
np.logaddexp(x, y) -> xp.logaddexp(x, y)  # real
np.logaddexp2(x, y) -> xp.logaddexp(x * math.log(2), y * math.log(2)) / math.log(2)  # real
np.arctan2(x, y) -> xp.atan2(x, y)  # real
np.hypot(x, y) -> xp.hypot(x, y)  # real
np.negative(x) -> xp.negative(x)
np.absolute(x) -> xp.abs(x)
np.fabs(x) -> xp.abs(x)  # real
np.reciprocal(x) -> xp.reciprocal(x)
np.exp(x) -> xp.exp(x)
np.exp2(x) -> xp.pow(2.0, x)  # real
np.expm1(x) -> xp.expm1(x)
np.log(p) -> xp.log(p)
np.log2(p) -> xp.log2(p)
np.log10(p) -> xp.log10(p)
np.log1p(p) -> xp.log1p(p)
np.sin(x) -> xp.sin(x)
np.cos(x) -> xp.cos(x)
np.tan(u) -> xp.tan(u)
np.arcsin(u) -> xp.asin(u)
np.arccos(u) -> xp.acos(u)
np.arctan(x) -> xp.atan(x)
np.sinh(x) -> xp.sinh(x)
np.cosh(x) -> xp.cosh(x)
np.tanh(x) -> xp.tanh(x)
np.arcsinh(x) -> xp.asinh(x)
np.arccosh(p + 1) -> xp.acosh(p + 1)
np.arctanh(u) -> xp.atanh(u)
np.rad2deg(x) -> x * (180 / math.pi)  # real
np.degrees(x) -> x * (180 / math.pi)  # real
np.deg2rad(x) -> x * (math.pi / 180)  # real
np.radians(x) -> x * (math.pi / 180)  # real
np.square(x) -> xp.square(x)
np.sqrt(p) -> xp.sqrt(p)
np.sinc(x) -> sp.sinc(x)  # real
np.real(x) -> xp.real(x + 0j)
np.imag(x + 1j * x * x) -> xp.imag(x + 1j * x * x)
np.conjugate(x) -> xp.conj(x)
np.angle(x + 0.5j) -> xp.atan2(xp.imag(x + 0.5j), xp.real(x + 0.5j))
np.real_if_close(x) -> x
np.clip(x, -0.5, 0.7) -> xp.clip(x, -0.5, 0.7)  # real
np.nan_to_num(x) -> xp.where(xp.isfinite(x), x, 0.0)  # real
np.where(X > 0, x, z) -> xp.where(X > 0, x, z)
np.astype(x, "complex128") * (1 + 2j) -> xp.astype(x, "complex128") * (1 + 2j)
"""

ARRAYS = """
np.reshape(x, (2, 6)) -> xp.reshape(x, (2, 6))
np.ravel(x) -> xp.reshape(x, (-1,))
np.roll(x, 2, axis=1) -> xp.roll(x, 2, axis=1)
np.array_split(x, 3, axis=1)[0] -> x[:, :2]
np.split(x, 2, axis=1)[1] -> x[:, 2:]
np.vsplit(x, 3)[1] -> x[1:2]
np.hsplit(x, 2)[1] -> x[:, 2:]
np.dsplit(t, 2)[0] -> t[:, :, :2]
np.expand_dims(x, 1) -> xp.expand_dims(x, axis=1)
np.squeeze(x[:, :1], 1) -> xp.squeeze(x[:, :1], axis=1)
np.diag(v, 1) -> xp.diag(v, k=1)
np.diag(m, -1) -> xp.diag(m, k=-1)
np.flipud(x) -> xp.flip(x, axis=0)
np.fliplr(x) -> xp.flip(x, axis=1)
np.rot90(x) -> xp.flip(x.mT, axis=0)
np.trace(m, 1) -> xp.linalg.trace(m, offset=1)
np.full((2, 3), o) -> xp.full((2, 3), o)
np.triu(m, 1) -> xp.triu(m, k=1)
np.tril(m, -1) -> xp.tril(m, k=-1)
np.swapaxes(t, 0, 2) -> xp.permute_dims(t, (2, 1, 0))
np.moveaxis(t, 0, -1) -> xp.moveaxis(t, 0, -1)
np.rollaxis(t, 2, 1) -> xp.moveaxis(t, 2, 1)
np.transpose(t, (2, 0, 1)) -> xp.permute_dims(t, (2, 0, 1))
np.cross(m, n) -> xp.linalg.cross(m, n)
np.linspace(o, o * o + 3, 5) -> xp.linspace(o, o * o + 3, 5)  # real
np.diff(x, n=2, axis=1) -> xp.diff(x, n=2, axis=1)
np.gradient(y) -> xp.concat([y[1:2] - y[:1], (y[2:] - y[:-2]) / 2, y[-1:] - y[-2:-1]])
np.repeat(x, 2, axis=1) -> xp.repeat(x, 2, axis=1)
np.tile(x, (2, 1)) -> xp.tile(x, (2, 1))
np.kron(m, n) -> xp.reshape(m[:, None, :, None] * n[None, :, None, :], (9, 9))
np.broadcast_to(x[:, :1], (3, 4)) -> xp.broadcast_to(x[:, :1], (3, 4))
np.atleast_1d(o) -> xp.reshape(o, (1,))
np.atleast_2d(v) -> xp.reshape(v, (1, 3))
np.atleast_3d(x) -> xp.expand_dims(x, axis=2)
np.sort(v) -> xp.sort(v)  # real
np.partition(v, 1)[1] -> xp.sort(v)[1]  # real
np.pad(x, ((1, 2), (0, 1)), "constant") -> xp.pad(x, ((1, 2), (0, 1)))
np.concatenate([x, y[None]], axis=0) -> xp.concat([x, y[None]], axis=0)
np.vstack([x, y]) -> xp.concat([x, y[None]], axis=0)
np.hstack([y, v]) -> xp.concat([y, v])
np.column_stack([v, x]) -> xp.concat([v[:, None], x], axis=1)
np.append(x, v) -> xp.concat([x, v], axis=None)
np.stack([x, x * x], axis=1) -> xp.stack([x, x * x], axis=1)
np.array([[x[0, 0], x[1, 2]], [o, o * o]]) -> xp.asarray([[x[0, 0], x[1, 2]], [o, o * o]])
np.array(o) -> xp.asarray(o)
np.select([X > 0.5, X < -0.5], [x, x * x], 1.0) -> xp.where(X > 0.5, x, xp.where(X < -0.5, x * x, 1.0))
x[1:, ::-2] -> x[1:, ::-2]
x[[0, 0, 2]] -> x[xp.asarray([0, 0, 2])]
x[X > 0] -> x[X > 0]
np.make_diagonal(x, 0, -1, -2) -> x[..., None] * xp.eye(4, dtype=x.dtype)  # real
np.diagonal(batch, 0, -1, -2) -> xp.linalg.diagonal(batch)  # real
"""

REDUCTIONS = """
np.sum(x, axis=1) -> xp.sum(x, axis=1)
np.mean(x, axis=0, keepdims=True) -> xp.mean(x, axis=0, keepdims=True)
np.prod(x, axis=0) -> xp.prod(x, axis=0)
np.var(x, axis=1, ddof=1) -> xp.var(x, axis=1, correction=1)  # real
np.std(x, axis=(0, 1)) -> xp.std(x, axis=(0, 1))  # real
np.max(x, axis=1) -> xp.max(x, axis=1)  # real
np.min(x, axis=1) -> xp.min(x, axis=1)  # real
np.amax(x) -> xp.max(x)  # real
np.amin(x) -> xp.min(x)  # real
np.cumsum(x, axis=1) -> xp.cumulative_sum(x, axis=1)
np.cumsum(x, axis=0) -> xp.cumulative_sum(x, axis=0)
special.logsumexp(x, axis=1) -> xp.logsumexp(x, axis=1)  # real
"""

PRODUCTS = """
np.matmul(batch, m) -> xp.matmul(batch, m)
np.matmul(v, m) -> xp.matmul(v, m)
np.dot(m, v) -> xp.matmul(m, v)
np.dot(o, x) -> o * x
np.dot(r, batch) -> xp.tensordot(r, batch, axes=((-1,), (-2,)))
np.inner(r, m) -> xp.tensordot(r, m, axes=((-1,), (-1,)))
np.outer(v, y) -> xp.linalg.outer(v, y)
np.tensordot(t, x, axes=((1, 2), (0, 1))) -> xp.tensordot(t, x, axes=((1, 2), (0, 1)))
np.tensordot(t, y, axes=1) -> xp.tensordot(t, y, axes=1)
np.einsum("ij,jk,k->i", m, x, y) -> xp.einsum("ij,jk,k->i", m, x, y)
np.einsum("...ij,...k->...ki", batch, r) -> xp.einsum("...ij,...k->...ki", batch, r)
np.einsum(t, [0, 1, 2], x, [1, 2], [0]) -> xp.einsum("abc,bc->a", t, x)
signal.convolve(y, v, mode="full") -> xp.conv1d(y[None, None], xp.flip(v)[None, None], padding=2)[0, 0]  # real
signal.convolve(x, r, mode="valid") -> xp.conv2d(x[None, None], xp.flip(r)[None, None])[0, 0]  # real
"""

LINEAR_ALGEBRA = """
la.inv(m) -> xp.linalg.inv(m)
la.pinv(r) -> xp.linalg.pinv(r)  # real
la.solve(m, v[:, None]) -> xp.linalg.solve(m, v[:, None])
la.det(batch) -> xp.linalg.det(batch)
la.slogdet(batch)[1] -> xp.linalg.slogdet(batch).logabsdet  # real
la.norm(x) -> xp.linalg.vector_norm(x)
la.norm(x, axis=1) -> xp.linalg.vector_norm(x, axis=1)
la.norm(v, 3) -> xp.linalg.vector_norm(v, ord=3)
la.norm(m, "nuc") -> xp.linalg.matrix_norm(m, ord="nuc")
la.cholesky(m @ m.T + 2 * np.eye(3)) -> xp.linalg.cholesky(m @ m.T + 2 * xp.eye(3, dtype=m.dtype))  # real
la.eigh(m + np.conj(m.T))[0] -> xp.linalg.eigh(m + xp.conj(m.T)).eigenvalues
np.abs(la.eigh(m + np.conj(m.T))[1]) -> xp.abs(xp.linalg.eigh(m + xp.conj(m.T)).eigenvectors)
la.eig(m)[0] -> xp.linalg.eig(m).eigenvalues
np.abs(la.eig(m)[1]) -> xp.abs(xp.linalg.eig(m).eigenvectors)
la.svd(x, compute_uv=False) -> xp.linalg.svdvals(x)
np.abs(la.svd(x, full_matrices=False)[0]) -> xp.abs(xp.linalg.svd(x, full_matrices=False).U)
np.abs(la.svd(x.T, full_matrices=False)[2]) -> xp.abs(xp.linalg.svd(x.T, full_matrices=False).Vh)
sla.solve_triangular(m, v, lower=True) -> xp.linalg.solve(xp.tril(m), v)  # real
sla.solve_triangular(m, x) -> xp.linalg.solve(xp.triu(m), x)  # real
sla.solve_banded((1, 1), m + 3 * D, v) -> xp.linalg.solve(xp.diag(m[0, 1:], k=1) + xp.diag(m[1] + 3) + xp.diag(m[2, :-1], k=-1), v)  # real
sla.solve_sylvester(m, n, w) -> xp.reshape(xp.linalg.solve(kron(m, I) + kron(I, n.T), xp.reshape(w, (-1,))), (3, 3))  # real
sla.sqrtm(m @ m.T + 2 * np.eye(3)) -> xp.real(xp.linalg.matrix_transpose(xp.linalg.solve((e := xp.linalg.eig(m @ m.T + 2 * xp.eye(3, dtype=m.dtype))).eigenvectors.T, (e.eigenvectors * xp.sqrt(e.eigenvalues)).T)))  # real
"""

FOURIER = """
fft.fft(x) -> xp.fft.fft(x)
fft.ifft(x, 6) -> xp.fft.ifft(x, n=6)
fft.fft(x, 3, axis=1) -> xp.fft.fft(x, n=3, axis=1)
fft.fft2(x) -> xp.fft.fftn(x, axes=(-2, -1))
fft.ifft2(x) -> xp.fft.ifftn(x, axes=(-2, -1))
fft.fftn(t) -> xp.fft.fftn(t)
fft.ifftn(t) -> xp.fft.ifftn(t)
fft.rfft(x) -> xp.fft.rfft(x)  # real
fft.rfft2(x) -> xp.fft.rfftn(x, axes=(-2, -1))  # real
fft.rfftn(t) -> xp.fft.rfftn(t)  # real
fft.irfft(x) -> xp.fft.irfft(x)
fft.irfft2(x) -> xp.fft.irfftn(x, axes=(-2, -1))
fft.irfftn(t) -> xp.fft.irfftn(t)
fft.fftshift(x, axes=1) -> xp.fft.fftshift(x, axes=1)
fft.ifftshift(x) -> xp.fft.ifftshift(x)
fft.truncate_pad(x, (2, 6)) -> xp.pad(x, ((0, 0), (0, 2)))[:2]  # real
"""

SPECIAL = """
special.beta(p, q) -> sp.beta(p, q)  # real
special.betainc(P, Q, c) -> sp.betainc(P, Q, c)  # real
special.betaln(p, q) -> sp.betaln(p, q)  # real
special.erf(x) -> sp.erf(x)  # real
special.erfc(x) -> sp.erfc(x)  # real
special.erfinv(u) -> sp.erfinv(u)  # real
special.erfcinv(c) -> sp.erfcinv(c)  # real
special.expit(x) -> sp.expit(x)  # real
special.logit(c) -> sp.logit(c)  # real
special.gamma(p) -> sp.gamma(p)  # real
special.gammaln(p) -> sp.gammaln(p)  # real
special.rgamma(p) -> sp.rgamma(p)  # real
special.gammasgn(x) * x -> sp.gammasgn(x) * x  # real
special.gammainc(P, p) -> sp.gammainc(P, p)  # real
special.gammaincc(P, p) -> sp.gammaincc(P, p)  # real
special.multigammaln(p + 1, 2) -> sp.multigammaln(p + 1, 2)  # real
special.polygamma(2, p) -> sp.polygamma(2, p)  # real
special.psi(p) -> sp.psi(p)  # real
special.digamma(p) -> sp.digamma(p)  # real
special.j0(p) -> sp.j0(p)  # real
special.j1(p) -> sp.j1(p)  # real
special.jn(2, p) -> sp.jv(2, p)  # real
special.y0(p) -> sp.y0(p)  # real
special.y1(p) -> sp.y1(p)  # real
special.yn(2, p) -> sp.yn(2, p)  # real
special.i0(x) -> sp.i0(x)  # real
special.i1(x) -> sp.i1(x)  # real
special.iv(2, p) -> sp.iv(2, p)  # real
special.ive(2, p) -> sp.ive(2, p)  # real
"""

STATISTICS = """
stats.norm.pdf(x, y, q) -> xp.exp(-(((x - y) / q) ** 2) / 2) / (q * math.sqrt(2 * math.pi))  # real
stats.norm.logpdf(x, y, q) -> -(((x - y) / q) ** 2) / 2 - xp.log(q) - math.log(2 * math.pi) / 2  # real
stats.norm.cdf(x, y, q) -> sp.ndtr((x - y) / q)  # real
stats.norm.sf(x, y, q) -> sp.ndtr((y - x) / q)  # real
stats.norm.logcdf(x, y, q) -> sp.log_ndtr((x - y) / q)  # real
stats.norm.logsf(x, y, q) -> sp.log_ndtr((y - x) / q)  # real
stats.t.logpdf(x, q, y, p) -> -sp.betaln(0.5, q / 2) - xp.log(q * p**2) / 2 - (q + 1) / 2 * xp.log1p(((x - y) / p) ** 2 / q)  # real
stats.t.pdf(x, q, y, p) -> xp.exp(-sp.betaln(0.5, q / 2) - xp.log(q * p**2) / 2 - (q + 1) / 2 * xp.log1p(((x - y) / p) ** 2 / q))  # real
stats.t.cdf(x, Q, y) -> sp.stdtr(Q, x - y)  # real
stats.t.logcdf(x, Q, y) -> xp.log(sp.stdtr(Q, x - y))  # real
stats.beta.logpdf(c, p, q) -> sp.xlogy(p - 1, c) + sp.xlog1py(q - 1, -c) - sp.betaln(p, q)  # real
stats.beta.pdf(c, p, q) -> xp.exp(sp.xlogy(p - 1, c) + sp.xlog1py(q - 1, -c) - sp.betaln(p, q))  # real
stats.beta.cdf(c, P, Q) -> sp.betainc(P, Q, c)  # real
stats.gamma.logpdf(p, q) -> sp.xlogy(q - 1, p) - p - sp.gammaln(q)  # real
stats.gamma.pdf(p, q) -> xp.exp(sp.xlogy(q - 1, p) - p - sp.gammaln(q))  # real
stats.gamma.cdf(p, Q) -> sp.gammainc(Q, p)  # real
stats.chi2.logpdf(p, K) -> sp.xlogy(K / 2 - 1, p / 2) - p / 2 - sp.gammaln(K / 2) - math.log(2)  # real
stats.chi2.pdf(p, K) -> xp.exp(sp.xlogy(K / 2 - 1, p / 2) - p / 2 - sp.gammaln(K / 2)) / 2  # real
stats.chi2.cdf(p, K) -> sp.chdtr(K, p)  # real
stats.poisson.logpmf(K, p) -> sp.xlogy(K, p) - p - sp.gammaln(K + 1)  # real
stats.poisson.pmf(K, p) -> xp.exp(sp.xlogy(K, p) - p - sp.gammaln(K + 1))  # real
stats.poisson.cdf(K, p) -> sp.pdtr(K, p)  # real
stats.dirichlet.logpdf(parts, alpha) -> xp.sum(sp.xlogy(alpha - 1, parts) - sp.gammaln(alpha)) + sp.gammaln(xp.sum(alpha))  # real
stats.dirichlet.pdf(parts, alpha) -> xp.exp(xp.sum(sp.xlogy(alpha - 1, parts) - sp.gammaln(alpha)) + sp.gammaln(xp.sum(alpha)))  # real
stats.multivariate_normal.logpdf(m, v, s) -> -xp.linalg.slogdet(2 * math.pi * s).logabsdet / 2 - xp.sum((m - v) * xp.linalg.solve(s, (m - v).T).T, axis=-1) / 2  # real
stats.multivariate_normal.pdf(m, v, s) -> xp.exp(-xp.linalg.slogdet(2 * math.pi * s).logabsdet / 2 - xp.sum((m - v) * xp.linalg.solve(s, (m - v).T).T, axis=-1) / 2)  # real
stats.multivariate_normal.entropy(V, s) -> xp.linalg.slogdet(2 * math.pi * math.e * s).logabsdet / 2  # real
integrate.odeint(swing, y[:2], T, tuple((o,)), rtol=1e-12, atol=1e-12) -> runge_kutta(swing, y[:2], T, o)  # real
"""

NO_GRADIENT = """
x * np.floor(x) -> x * xp.floor(x)  # real
x * np.ceil(x) -> x * xp.ceil(x)  # real
x * np.round(x) -> x * xp.round(x)  # real
x * np.rint(x) -> x * xp.round(x)  # real
x * np.fix(x) -> x * xp.trunc(x)  # real
x * np.trunc(x) -> x * xp.trunc(x)  # real
x * np.sign(x) -> x * xp.sign(x)  # real
x * np.floor_divide(x, q) -> x * xp.floor_divide(x, q)  # real
"""

CHAPTERS = {
    "Elementwise": ELEMENTWISE,
    "Arrays": ARRAYS,
    "Reductions": REDUCTIONS,
    "Products": PRODUCTS,
    "Linear algebra": LINEAR_ALGEBRA,
    "Fourier transforms": FOURIER,
    "Special functions": SPECIAL,
    "Statistics, integration": STATISTICS,
    "Constant almost everywhere": NO_GRADIENT,
}

# Functions in autograd's registry that its users do not call: the containers and sums of its own engine, and the rules of
# rules, which here are the ordinary operations of a recorded pass.
INTERNAL = {
    "autograd.builtins": "nested containers: tinyxp.func takes them as they are",
    "autograd.core": "sums and products of cotangents in the engine",
    "numpy_vjps.dot_adjoint_0": "the rule of dot, for second derivatives",
    "numpy_vjps.dot_adjoint_1": "the rule of dot, for second derivatives",
    "numpy_vjps.tensordot_adjoint_0": "the rule of tensordot, for second derivatives",
    "numpy_vjps.tensordot_adjoint_1": "the rule of tensordot, for second derivatives",
    "numpy_vjps.untake": "the rule of indexing, for second derivatives",
}
