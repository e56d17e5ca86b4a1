// SHA-256 (FIPS 180-4) for pages without SubtleCrypto, which a page has only over https or on localhost.

// The first 32 bits of the fractional parts of the square and cube roots of the first primes, computed exactly.
function fraction(prime, root) {
  const wide = BigInt(prime) << BigInt(32 * root);
  let low = 0n, high = wide;
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle ** BigInt(root) <= wide) low = middle; else high = middle;
  }
  return Number(low & 0xffffffffn);
}
const PRIMES = [];
for (let n = 2; PRIMES.length < 64; n++) if (PRIMES.every(p => n % p)) PRIMES.push(n);
const START = PRIMES.slice(0, 8).map(p => fraction(p, 2));
const ROUND = PRIMES.map(p => fraction(p, 3));

const turn = (x, n) => (x >>> n) | (x << (32 - n));

export function digest(bytes) {
  const length = bytes.length, padded = new Uint8Array(((length + 72) >> 6) << 6);
  padded.set(bytes);
  padded[length] = 0x80;
  const view = new DataView(padded.buffer), w = new Int32Array(64), h = Int32Array.from(START);
  view.setUint32(padded.length - 8, Math.floor(length / 2 ** 29));
  view.setUint32(padded.length - 4, (length * 8) >>> 0);
  for (let at = 0; at < padded.length; at += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(at + 4 * i);
    for (let i = 16; i < 64; i++) {
      const a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + w[i - 7] + (turn(a, 7) ^ turn(a, 18) ^ (a >>> 3)) + (turn(b, 17) ^ turn(b, 19) ^ (b >>> 10));
    }
    let [a, b, c, d, e, f, g, k] = h;
    for (let i = 0; i < 64; i++) {
      const one = (k + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + ROUND[i] + w[i]) | 0;
      const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [k, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
    }
    [a, b, c, d, e, f, g, k].forEach((x, i) => { h[i] += x; });
  }
  return [...h].map(x => (x >>> 0).toString(16).padStart(8, "0")).join("");
}

export async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return digest(bytes);
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...found].map(x => x.toString(16).padStart(2, "0")).join("");
}
