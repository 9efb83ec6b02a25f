"""Calls of other libraries on Tensors: what `consumers.py` differentiates.

A line is an expression. Its single letters, and letters with a digit, are the arrays of `INPUTS`; those that
are floating are differentiated. A line counts for the public function it names first.
"""

from __future__ import annotations

from consumers_calls_beyond import EINOPS, EXTRA, LEARN

# Generic points: no ties, nothing at an edge.
INPUTS: dict[str, object] = {
    "x": [0.72, 1.91, 1.37, 2.55, 0.43, 2.18, 1.06, 2.83],
    "y": [1.11, 2.42, 0.87, 2.97, 0.64, 1.63, 1.29, 2.05],
    "z": [0.35, 1.48, 2.71, 0.92, 1.77, 2.26, 0.59, 1.15],
    "u": [-0.62, 0.31, 0.74, -0.18, 0.55, -0.87, 0.09, -0.41],
    "p": [0.12, 0.48, 0.83, 0.31, 0.66, 0.07, 0.93, 0.57],
    "t": [0.0, 0.4, 0.9, 1.3, 2.1, 2.6, 3.2, 3.9],
    "w": [0.7, 1.3, 0.4, 1.9, 0.9, 1.1, 0.6, 1.6],
    "k": [3, 1, 4, 1, 5, 2, 6, 5],
    "n": [0, 1, 1, 0, 1],
    "a": 1.3,
    "b": 0.6,
    "c": 2.4,
    "m": [[1.2, 0.3, -0.7, 0.5], [0.4, -1.1, 0.8, 0.2], [-0.3, 0.9, 1.7, -0.6], [0.1, 0.6, -0.2, 2.1], [0.9, -0.5, 0.35, -1.4]],
    "h": [[2.9, 0.31, -0.52, 0.23], [0.17, 3.4, 0.62, -0.41], [-0.25, 0.73, 2.2, 0.56], [0.48, -0.36, 0.19, 4.1]],
    "q": [[0.31, -0.42, 0.57, 0.63], [-0.28, 0.15, 0.74, 0.59], [0.66, 0.21, -0.35, 0.62]],
    "v": [[0.4, -1.2, 0.9], [1.1, 0.3, -0.6], [-0.8, 0.7, 1.5]],
    "g": [0.31, -0.42, 0.57, 1.63],
    "d": [[0.7, 1.9, 1.1, 2.6, 0.4, 2.2], [1.5, 0.8, 2.9, 1.3, 2.4, 0.6], [2.1, 1.7, 0.5, 0.95, 1.85, 2.75]],
    "x5": [0.31, 0.92, 1.74, 2.33, 2.95],
    "x9": [0.43, 1.17, 0.85, 2.06, 1.52, 2.71, 1.94, 0.66, 1.35],
}  # fmt: skip

SPECIAL = """
special.bdtr(2.0, 8, p)
special.bdtrc(2.0, 8, p)
special.bdtri(2.0, 8, p)
special.betainc(1.3, 2.4, p)
special.betaincc(1.3, 2.4, p)
special.betaincinv(1.3, 2.4, p)
special.betaln(x, y)
special.binom(5 + x, y)
special.boxcox(x, u)
special.boxcox1p(x, u)
special.cbrt(x)
special.chdtr(3.0, x)
special.chdtrc(3.0, x)
special.chdtri(3.0, p)
special.cosdg(x)
special.cosm1(x)
special.cotdg(x)
special.digamma(x)
special.ellipk(p)
special.ellipkm1(p)
special.entr(x)
special.erf(u)
special.erfc(x)
special.erfcx(x)
special.erfinv(u)
special.exp1(x)
special.exp10(u)
special.exp2(u)
special.expi(x)
special.expit(u)
special.expn(2, x)
special.exprel(u)
special.fdtr(3.0, 5.0, x)
special.fdtrc(3.0, 5.0, x)
special.fdtri(3.0, 5.0, p)
special.gamma(x)
special.gammainc(1.7, x)
special.gammaincc(1.7, x)
special.gammainccinv(1.7, p)
special.gammaincinv(1.7, p)
special.gammaln(x)
special.gammasgn(x)
special.gdtr(a, 1.7, x)
special.gdtrc(a, 1.7, x)
special.huber(a, y)
special.hyp1f1(1.2, 2.3, u)
special.i0(x)
special.i0e(x)
special.i1(x)
special.i1e(x)
special.inv_boxcox(0.2 * x, p)
special.inv_boxcox1p(0.2 * x, p)
special.j0(x)
special.j1(x)
special.k0(x)
special.k0e(x)
special.k1(x)
special.k1e(x)
special.kl_div(x, y)
special.log_ndtr(u)
special.log_softmax(x)
special.loggamma(x)
special.logit(p)
special.logsumexp(x)
special.logsumexp(d, axis=1, b=d)
special.lpmv(1, 2, p)
special.multigammaln(3.0 + a, 3)
special.nbdtr(2, 3, p)
special.nbdtrc(2, 3, p)
special.nbdtri(2, 3, p)
special.ndtr(u)
special.ndtri(p)
special.pdtr(2.0, x)
special.pdtrc(2.0, x)
special.pdtri(2, p)
special.poch(x, y)
special.polygamma(1, x)
special.pseudo_huber(a, u)
special.psi(x)
special.radian(x, y, z)
special.rel_entr(x, y)
special.rgamma(x)
special.sinc(x)
special.sindg(x)
special.softmax(x)
special.spence(x)
special.stdtr(5.0, u)
special.stdtrit(5.0, p)
special.tandg(x)
special.xlog1py(x, y)
special.xlogy(x, y)
special.y0(x)
special.y1(x)
special.yn(2, x)
special.zeta(2.5, x)
special.zetac(1 + x)
"""

STATISTICS = """
stats.alexandergovern(x, y, z)
stats.bartlett(x, y, z)
stats.boxcox_llf(0.7, x)
stats.boxcox_llf(a, x)
stats.bws_test(x, y, method=stats.PermutationMethod(n_resamples=20)).statistic
stats.chatterjeexi(x, y)
stats.chisquare(x, y * xp.sum(x) / xp.sum(y))
stats.circmean(x)
stats.circstd(x)
stats.circvar(x)
stats.combine_pvalues(p)
stats.combine_pvalues(p, method="stouffer", weights=w)
stats.combine_pvalues(p, method="pearson")
stats.cramervonmises(u, special.ndtr)
stats.cramervonmises_2samp(x, y)
stats.cumfreq(x).cumcount
stats.describe(x)
stats.differential_entropy(x9)
stats.directional_stats(m).mean_direction
stats.energy_distance(x, y)
stats.entropy(x)
stats.entropy(x, y)
stats.epps_singleton_2samp(x, y)
stats.estimated_cdf(x, y)
stats.expectile(x, 0.3)
stats.f_oneway(x, y, z)
stats.false_discovery_control(p)
stats.fligner(x, y, z)
stats.friedmanchisquare(x, y, z)
stats.gmean(x)
stats.gmean(x, weights=w)
stats.gstd(x)
stats.gzscore(x)
stats.hmean(x)
stats.hmean(x, weights=w)
stats.iqr(x)
stats.jarque_bera(x)
stats.kendalltau(x, y)
stats.kruskal(x, y, z)
stats.ks_1samp(u, special.ndtr, method="asymp")
stats.ks_2samp(x, y)
stats.kstat(x, 3)
stats.kstatvar(x, 2)
stats.kurtosis(x)
stats.kurtosistest(x)
stats.levene(x, y, z)
stats.linregress(x, y)
stats.lmoment(x, 3)
stats.mannwhitneyu(x, y)
stats.median_abs_deviation(x)
stats.mode(x)
stats.moment(x, 3)
stats.monte_carlo_test(x, lambda size: xp.ones(size), lambda s, axis: xp.mean(s, axis=axis), n_resamples=9).statistic
stats.mood(x, y)
stats.normaltest(x)
stats.obrientransform(x, y)
stats.pearsonr(x, y)
stats.pearsonr(x, y).confidence_interval()
stats.permutation_test((x, y), lambda r, s, axis: xp.mean(r, axis=axis) - xp.mean(s, axis=axis), n_resamples=9).statistic
stats.bootstrap((x,), lambda s, axis: xp.mean(s, axis=axis), n_resamples=19, rng=0, method="percentile").confidence_interval
stats.percentileofscore(x, a)
stats.pmean(x, 3)
stats.pmean(x, 3, weights=w)
stats.pointbiserialr(xp.astype(k, xp.float64), y)
stats.power_divergence(x, y * xp.sum(x) / xp.sum(y), lambda_="log-likelihood")
stats.quantile(x, 0.3)
stats.quantile(x, p, method="harrell-davis")
stats.rankdata(x)
stats.ranksums(x, y)
stats.relfreq(x)
stats.scoreatpercentile(x, 30)
stats.sem(x)
stats.shapiro(x)
stats.siegelslopes(y, x)
stats.sigmaclip(x)
stats.skew(x)
stats.skewtest(x)
stats.spearmanr(x, y)
stats.spearmanrho(x, y)
stats.theilslopes(y, x)
stats.tmax(x, 2.5)
stats.tmean(x, (0.5, 2.6))
stats.tmin(x, 0.5)
stats.trim1(x, 0.2)
stats.trim_mean(x, 0.2)
stats.trimboth(x, 0.2)
stats.tsem(x, (0.5, 2.6))
stats.tstd(x, (0.5, 2.6))
stats.tvar(x, (0.5, 2.6))
stats.ttest_1samp(x, 1.1)
stats.ttest_ind(x, y)
stats.ttest_ind(x, y, equal_var=False).confidence_interval()
stats.ttest_ind_from_stats(a, b, 8, c, a, 9)
stats.ttest_rel(x, y)
stats.variation(x)
stats.wasserstein_distance(x, y)
stats.weightedtau(x, y)
stats.wilcoxon(x, y)
stats.yeojohnson_llf(0.7, u)
stats.boxcox(x, 0.7)
stats.yeojohnson(u, 0.7)
stats.zmap(x, y)
stats.zscore(x)
stats.contingency.expected_freq(d)
stats.chi2_contingency(d)
"""

DISTRIBUTIONS = """
stats.Normal(mu=a, sigma=b).logpdf(x)
stats.Normal(mu=a, sigma=b).entropy()
stats.Uniform(a=b, b=c).logpdf(x)
stats.Logistic().logpdf(x)
stats.norm.logpdf(x, a, b)
stats.gamma.logpdf(x, a, scale=b)
stats.multivariate_normal.logpdf(x5)
"""

INTEGRATION = """
integrate.trapezoid(x, y)
integrate.trapezoid(x, t)
integrate.simpson(x, x=t)
integrate.simpson(d, dx=0.3)
integrate.cumulative_trapezoid(x, t)
integrate.cumulative_simpson(x, x=t)
integrate.romb(x9)
integrate.fixed_quad(lambda s: xp.exp(-a * s), 0, 1, n=5)
integrate.quad_vec(lambda s: xp.exp(-a * s), 0, 1)
integrate.tanhsinh(lambda s: xp.exp(-a * s), xp.zeros_like(b), b).integral
integrate.tanhsinh(lambda s, r: xp.exp(-r * s), 0.0 * a, xp.inf + 0.0 * b, args=(a,)).integral
integrate.nsum(lambda s: s ** -(1 + a), xp.asarray(1.0), xp.asarray(xp.inf)).sum
integrate.nsum(lambda s: xp.exp(-a * s), xp.asarray(1.0), xp.asarray(9.0)).sum
integrate.cubature(lambda s: xp.exp(-a * s[:, 0]), xp.zeros(1), xp.reshape(c, (1,))).estimate
integrate.qmc_quad(lambda s: xp.exp(-a * s), 0.0, 1.0, rng=1)
integrate.quad(lambda s: math.exp(-float(a) * s), 0, 1)
integrate.solve_ivp(lambda s, r: -a * r, (0, 1), [1.0]).y
"""

OPTIMIZATION = """
optimize.elementwise.find_root(lambda s, r: s**3 - r, (0.0 * a, 3 + 0.0 * a), args=(a,)).x
optimize.elementwise.find_root(lambda s, r: xp.exp(s) - r, (-3 + 0.0 * x, 3 + 0.0 * x), args=(x,)).x
optimize.elementwise.find_minimum(lambda s, r: (s - r)**2, (-4 + 0.0 * a, 0.0 * a, 4 + 0.0 * a), args=(a,)).x
optimize.elementwise.find_minimum(lambda s, r: (s - r)**2 + r**2, (-4 + 0.0 * a, 0.0 * a, 4 + 0.0 * a), args=(a,)).f_x
optimize.elementwise.bracket_root(lambda s, r: s**3 - r, a - 3, a - 2, args=(a,)).bracket
optimize.elementwise.bracket_minimum(lambda s, r: (s - 9 - r)**2, a, args=(a,)).bracket
optimize.rosen(x)
optimize.rosen_der(x)
optimize.rosen_hess(x)
optimize.rosen_hess_prod(x, y)
optimize.minimize(lambda s: xp.sum((s - a) ** 2), [0.0]).x
optimize.brentq(lambda s: s**3 - a, 0, 3)
optimize.newton(lambda s: s**3 - x, x)
"""

DIFFERENTIATION = """
differentiate.derivative(xp.exp, x).df
differentiate.derivative(lambda s, r: xp.exp(r * s), x, args=(y,)).df
differentiate.jacobian(lambda s: xp.stack([s[0] * s[1], s[0] ** 3]), xp.stack([a, b])).df
differentiate.hessian(lambda s: s[0] ** 3 * s[1], xp.stack([a, b])).ddf
"""

INTERPOLATION = """
interpolate.RBFInterpolator(m, x5)(m[:2, :] + 0.1)
interpolate.RBFInterpolator(m, x5, kernel="gaussian", epsilon=0.7)(m[:2, :] + 0.1)
interpolate.CubicSpline(t, x)(y)
interpolate.PchipInterpolator(t, x)(y)
interpolate.Akima1DInterpolator(t, x)(y)
interpolate.CubicHermiteSpline(t, x, z)(y)
interpolate.make_interp_spline(t, x)(y)
interpolate.make_smoothing_spline(t, x)(y)
interpolate.BSpline(t, x[:4], 3)(y)
interpolate.PPoly(m[:, :3], t[:4])(b)
interpolate.interp1d(t, x)(y)
interpolate.RegularGridInterpolator((x5, x5), m @ m.T)(m[:, :2] * 0.1 + 1)
interpolate.BarycentricInterpolator(t, x)(y)
interpolate.KroghInterpolator(t, x)(y)
interpolate.barycentric_interpolate(t, x, y)
interpolate.krogh_interpolate(t, x, y)
"""

SIGNALS = """
signal.fftconvolve(x, y)
signal.convolve(x, y, method="fft")
signal.correlate(x, y, method="fft")
signal.oaconvolve(x, y)
signal.envelope(x)
signal.hilbert(x)
signal.hilbert2(d)
signal.detrend(x)
signal.resample(x, 5)
signal.bilinear(x5, x5 + 1)
signal.bilinear_zpk(x5, x5 + 1, a, 2.0)
signal.abcd_normalize(h, h[:, :1], h[:1, :], h[:1, :1])
signal.freqz_zpk(x5, 0.3 * x5, a, 5)
signal.freqs_zpk(x5, -x5, a, x)
signal.freqz(x5, x9, 5)
signal.freqs(x5, x9, x)
signal.sos2zpk | [xp.sum(r**3) for r in signal.sos2zpk(xp.concat([d[:, :3], xp.ones_like(d[:, :1]), d[:, 4:]], axis=1))]
signal.sosfreqz(xp.concat([d[:, :3], xp.ones_like(d[:, :1]), d[:, 4:]], axis=1), 5)
signal.group_delay((x5, x9), 5)
signal.lp2lp_zpk(x5, -x5, a, c)
signal.lp2hp_zpk(x5, -x5, a, c)
signal.lp2bp_zpk(x5, -x5, a, c, b)
signal.lp2bs_zpk(x5, -x5, a, c, b)
signal.lp2lp(x5, x9, c)
signal.lp2hp(x5, x9, c)
signal.lp2bp(x5, x9, c, b)
signal.lp2bs(x5, x9, c, b)
signal.normalize(x5, x9)
signal.zpk2tf(x5, x5, a)
signal.zpk2sos(x5, 0.2 * x5, a)
signal.tf2zpk | [xp.sum(r**3) for r in signal.tf2zpk(x5, x9)]
signal.tf2sos(x5, x5 + 1)
signal.sos2tf(d)
signal.tf2ss(x5, x9)
signal.ss2tf(h, h[:, :1], h[:1, :], h[:1, :1])
signal.cont2discrete((h, h[:, :1], h[:1, :], h[:1, :1]), 0.1)
signal.chirp(x, 1.0, 2.0, 3.0)
signal.chirp(t, a, b, c)
signal.sawtooth(x)
signal.gausspulse(x, 1.0)
signal.square(x)
signal.sweep_poly(x, g)
signal.gauss_spline(u, 3)
signal.lfilter(x5, x9, x)
signal.lfilter_zi(x5, x5 + 1)
signal.filtfilt(x5, x5 + 1, xp.concat([x, y, z]))
signal.deconvolve(x9, x5)
signal.savgol_filter(x, 5, 2)
signal.savgol_coeffs(5, 2, deriv=1, delta=a)
signal.periodogram(x)
signal.welch(x, nperseg=8)
signal.csd(x, y, nperseg=8)
signal.coherence(x, y, nperseg=4)
signal.spectrogram(x, nperseg=4)
signal.stft(x, nperseg=4)
signal.istft(m)
signal.lombscargle(t, x, y)
signal.vectorstrength(x, a)
signal.medfilt(x, 3)
signal.wiener(x)
signal.upfirdn(x5, x)
signal.resample_poly(x, 2, 3)
signal.decimate(xp.concat([x, y, z, x]), 2)
signal.czt(x)
signal.zoom_fft(x, 0.5)
signal.cspline1d(x)
signal.unique_roots(x)
signal.whittaker_henderson(x, lamb=2.0)
signal.freqresp((x5, x9), x)
signal.kaiser_beta(a + 50)
signal.kaiser_atten(12, b)
signal.minimum_phase(x9)
signal.firls(7, [0, 0.3, 0.5, 1], x[:4])
"""

TRANSFORMS = """
fft.fft(x)
fft.ifft(x)
fft.rfft(x)
fft.irfft(x)
fft.hfft(x)
fft.ihfft(x)
fft.fft2(d)
fft.ifft2(d)
fft.rfft2(d)
fft.irfft2(d)
fft.hfft2(d)
fft.ihfft2(d)
fft.fftn(d)
fft.ifftn(d)
fft.rfftn(d)
fft.irfftn(d)
fft.hfftn(d)
fft.ihfftn(d)
fft.fftshift(x)
fft.ifftshift(x)
fft.fht(x, 0.1, 0.3)
fft.ifht(x, 0.1, 0.3)
fft.dct(x)
fft.dst(x)
fft.idct(x)
"""

GEOMETRY = """
spatial.transform.Rotation.as_quat | spatial.transform.Rotation.from_rotvec(v).as_quat()
spatial.transform.Rotation.as_matrix | spatial.transform.Rotation.from_quat(q).as_matrix()
spatial.transform.Rotation.as_rotvec | spatial.transform.Rotation.from_quat(q).as_rotvec()
spatial.transform.Rotation.as_euler | spatial.transform.Rotation.from_quat(q).as_euler("xyz")
spatial.transform.Rotation.as_mrp | spatial.transform.Rotation.from_quat(q).as_mrp()
spatial.transform.Rotation.as_davenport | spatial.transform.Rotation.from_quat(q).as_davenport(xp.eye(3), "extrinsic")
spatial.transform.Rotation.from_quat | spatial.transform.Rotation.from_quat(q).as_quat()
spatial.transform.Rotation.from_matrix | spatial.transform.Rotation.from_matrix(h[:3, :3] * 1.0).as_quat()
spatial.transform.Rotation.from_rotvec | spatial.transform.Rotation.from_rotvec(v).as_matrix()
spatial.transform.Rotation.from_euler | spatial.transform.Rotation.from_euler("xyz", v).as_matrix()
spatial.transform.Rotation.from_mrp | spatial.transform.Rotation.from_mrp(v).as_matrix()
spatial.transform.Rotation.from_davenport | spatial.transform.Rotation.from_davenport(xp.eye(3), "extrinsic", v).as_matrix()
spatial.transform.Rotation.apply | spatial.transform.Rotation.from_quat(q).apply(v)
spatial.transform.Rotation.inv | spatial.transform.Rotation.from_quat(q).inv().as_quat()
spatial.transform.Rotation.magnitude | spatial.transform.Rotation.from_quat(q).magnitude()
spatial.transform.Rotation.mean | spatial.transform.Rotation.from_quat(q).mean().as_matrix()
spatial.transform.Rotation.reduce | spatial.transform.Rotation.from_quat(q).reduce().as_matrix()
spatial.transform.Rotation.__mul__ | (spatial.transform.Rotation.from_quat(q) * spatial.transform.Rotation.from_rotvec(v)).as_matrix()
spatial.transform.Rotation.__pow__ | (spatial.transform.Rotation.from_quat(q) ** 0.3).as_matrix()
spatial.transform.Rotation.approx_equal | spatial.transform.Rotation.from_quat(q).approx_equal(spatial.transform.Rotation.from_rotvec(v))
spatial.transform.Rotation.align_vectors | spatial.transform.Rotation.align_vectors(v, q[:, :3])[0].as_matrix()
spatial.transform.Slerp | spatial.transform.Slerp(xp.asarray([0.0, 1.0, 2.0]), spatial.transform.Rotation.from_quat(q))(p).as_matrix()
spatial.transform.RigidTransform.from_matrix | spatial.transform.RigidTransform.from_matrix(xp.concat([xp.concat([xp.eye(3), v[:, :1]], axis=1), xp.asarray([[0.0, 0.0, 0.0, 1.0]])])).as_matrix()
spatial.transform.RigidTransform.from_translation | spatial.transform.RigidTransform.from_translation(v).as_matrix()
spatial.transform.RigidTransform.from_rotation | spatial.transform.RigidTransform.from_rotation(spatial.transform.Rotation.from_quat(q)).as_matrix()
spatial.transform.RigidTransform.from_components | spatial.transform.RigidTransform.from_components(v, spatial.transform.Rotation.from_quat(q)).as_matrix()
spatial.transform.RigidTransform.from_exp_coords | spatial.transform.RigidTransform.from_exp_coords(d).as_matrix()
spatial.transform.RigidTransform.from_dual_quat | spatial.transform.RigidTransform.from_dual_quat(x).as_matrix()
spatial.transform.RigidTransform.as_exp_coords | spatial.transform.RigidTransform.from_exp_coords(d).as_exp_coords()
spatial.transform.RigidTransform.as_dual_quat | spatial.transform.RigidTransform.from_exp_coords(d).as_dual_quat()
spatial.transform.RigidTransform.as_components | spatial.transform.RigidTransform.from_exp_coords(d).as_components()[0]
spatial.transform.RigidTransform.apply | spatial.transform.RigidTransform.from_exp_coords(d).apply(v)
spatial.transform.RigidTransform.inv | spatial.transform.RigidTransform.from_exp_coords(d).inv().as_matrix()
spatial.transform.RigidTransform.mean | spatial.transform.RigidTransform.from_exp_coords(d).mean().as_matrix()
spatial.distance_matrix(m, d[:, :4])
spatial.minkowski_distance(m[:3, :], d[:, :4], 3)
spatial.distance.cdist(m, d[:, :4])
spatial.distance.pdist(m)
cluster.vq.whiten(m)
cluster.vq.kmeans(m, m[:2, :])
linalg.block_diag(m, h)
linalg.fiedler(x)
linalg.orthogonal_procrustes(m, m[::-1, :] * 1.1)
linalg.expm(h)
linalg.inv(h)
linalg.solve(h, g)
ndimage.gaussian_filter(m, 1.0)
ndimage.convolve(x, g)
ndimage.map_coordinates(m, m[:2, :])
ndimage.center_of_mass(m)
constants.convert_temperature(x, "Celsius", "Kelvin")
constants.lambda2nu(x)
constants.nu2lambda(x)
sparse.linalg.aslinearoperator(h).matvec(g)
sparse.linalg.cg(h @ h.T, g)
sparse.linalg.gmres(h, g)
sparse.linalg.LinearOperator.matmat | sparse.linalg.aslinearoperator(h).matmat(m.T)
sparse.linalg.LinearOperator.rmatvec | sparse.linalg.aslinearoperator(h).rmatvec(g)
"""

WINDOWS = """
signal.windows.general_hamming(7, b)
signal.windows.kaiser(7, a)
signal.windows.gaussian(7, a)
signal.windows.tukey(7, b)
signal.windows.exponential(7, tau=a)
signal.windows.general_gaussian(7, a, c)
signal.windows.general_cosine(7, g)
"""

CHAPTERS = {
    "Special functions": SPECIAL,
    "Statistics and tests": STATISTICS,
    "Distributions": DISTRIBUTIONS,
    "Integration": INTEGRATION,
    "Root finding and minimisation": OPTIMIZATION,
    "Differentiation": DIFFERENTIATION,
    "Interpolation": INTERPOLATION,
    "Signals": SIGNALS,
    "Windows": WINDOWS,
    "Fourier and related transforms": TRANSFORMS,
    "Geometry, linear algebra, images": GEOMETRY,
    "scikit-learn": LEARN,
    "einops": EINOPS,
    "array-api-extra": EXTRA,
}
