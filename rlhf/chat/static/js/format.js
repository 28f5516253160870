// Numbers as people read them; null, which is "nothing to say", is a dash.

const DASH = "–";
const signed = (text) => text.replace(/^-/, "−");
const known = (value) => typeof value === "number" && Number.isFinite(value);

export function number(value, digits = 2) {
  return known(value) ? signed(value.toLocaleString("en", { maximumFractionDigits: digits })) : DASH;
}

// Three significant digits, for numbers of any size.
export function short(value) {
  if (!known(value)) return DASH;
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return signed(value.toExponential(2));
  return signed(value.toLocaleString("en", { maximumSignificantDigits: Math.max(3, Math.ceil(Math.log10(size + 1))) }));
}

// [value, unit]
export function seconds(value) {
  if (!known(value)) return [DASH, ""];
  if (value < 1) return [String(Math.round(value * 1000)), "ms"];
  return [value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 2 : 1 }), "s"];
}

export function bytes(value) {
  if (!known(value)) return [DASH, ""];
  return value >= 2 ** 30 ? [number(value / 2 ** 30, 2), "GB"] : [number(value / 2 ** 20, 0), "MB"];
}

export function percent(value) {
  return known(value) ? `${number(100 * value, 1)}%` : DASH;
}

export function interval(low, high, as = short) {
  return known(low) && known(high) ? `${as(low)} to ${as(high)}` : DASH;
}

export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

export function day(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? String(iso) : date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

export function count(n, one, many = `${one}s`) {
  return `${number(n, 0)} ${n === 1 ? one : many}`;
}
