// When a timed run has enough samples; edgeward/profiling/agent/stopping.py says why this is allowed.
export const GROWTH = 1.25;

// 1-based ranks of the order statistics around a quantile; null where n is too small for that end.
export function intervalRanks(n, share, confidence) {
  const tail = (1 - confidence) / 2;
  let log = n * Math.log(1 - share), below = Math.exp(log), low = 0, high = 0;
  if (below <= tail) low = 1;
  if (below < 1 - tail) high = 1;
  for (let k = 1; k < n; k++) {
    log += Math.log((n - k + 1) / k) + Math.log(share / (1 - share));
    below += Math.exp(log);
    if (below <= tail) low = k + 1;
    if (below < 1 - tail) high = k + 1;
  }
  return [low || null, high + 1 <= n ? high + 1 : null];
}

// Half the width of each percentile's interval, as a share of the percentile.
export function halfWidths(samples, percents, confidence) {
  const ordered = Float64Array.from(samples).sort(), n = ordered.length;
  return percents.map(percent => {
    const [low, high] = intervalRanks(n, percent / 100, confidence);
    if (low === null || high === null) return Infinity;
    const middle = ordered[Math.max(1, Math.ceil((n * percent) / 100 - 1e-9)) - 1];
    return middle ? (ordered[high - 1] - ordered[low - 1]) / 2 / middle : Infinity;
  });
}

export const enough = (samples, stop) =>
  Math.max(...halfWidths(samples, stop.percentiles, stop.confidence)) <= stop.half_width;
