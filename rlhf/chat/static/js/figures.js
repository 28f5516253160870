// What each figure shows of a snapshot: the part that it depends on, its plot, its table, and what an empty one says.
//
// A figure gives {rows, head, traces, how, says, warns?} or, with nothing to draw, null.

import { clock, count, interval, number, percent, short } from "./format.js";
import { bars, dots, line, look, plain, themed, upright } from "./plot.js";

// The same version looks the same everywhere: by its place in the registry.
export function places(snapshot) {
  const order = new Map(snapshot.versions.map((version, n) => [version.name, n]));
  return (name) => {
    if (!order.has(name)) order.set(name, order.size);
    return order.get(name);
  };
}

function standings(snapshot) {
  const met = snapshot.versions.filter((version) => version.strength !== null).sort((a, b) => b.strength - a.strength);
  if (!met.length) return null;
  const place = places(snapshot);
  const rows = met.map((one) => ({
    label: plain(one.name, 24), value: one.strength, low: one.low ?? one.strength, high: one.high ?? one.strength,
    hover: `${plain(one.name)}: ${short(one.strength)} (${interval(one.low, one.high)}), ${count(one.duels, "duel")}`,
  }));
  return {
    head: ["Version", "Strength", "95% interval", "Duels"],
    rows: met.map((one) => [one.name, short(one.strength), interval(one.low, one.high), number(one.duels, 0)]),
    traces: [dots(rows, met.map((one) => look(place(one.name)).colour))],
    how: { height: 66 + 40 * rows.length, x: { title: "strength (logits)" }, y: { type: "category", range: [rows.length - 0.5, -0.5], showgrid: false }, shapes: [upright(0)] },
    says: `Strongest: ${met[0].name}`,
  };
}

function rewards(snapshot) {
  const points = snapshot.rewards;
  if (!points.length) return null;
  const place = places(snapshot);
  const names = [...new Set(points.map((point) => point.version))].sort((a, b) => place(a) - place(b));
  const traces = names.map((name) => {
    const own = points.filter((point) => point.version === name);
    return line(place(name), name || "unknown", own.map((point) => new Date((point.time + snapshot.reward_span / 2) * 1000)), own.map((point) => point.mean), {
      mode: "lines+markers", text: own.map((point) => count(point.replies, "reply", "replies")),
      hovertemplate: "%{y:.3f} · %{text}<extra>%{fullData.name}</extra>",
    });
  });
  const end = Math.max(snapshot.time, points.at(-1).time + snapshot.reward_span / 2) * 1000 + 300_000;
  const begin = Math.min(points[0].time * 1000, end - 2 * 3600 * 1000); // two hours at least, so that one point is not a whole axis
  return {
    head: ["From", "Version", "Mean reward", "Replies"],
    rows: points.toReversed().map((point) => [clock(point.time), point.version || "unknown", number(point.mean, 3), number(point.replies, 0)]),
    traces,
    how: { height: 290, legend: true, x: { type: "date", range: [new Date(begin), new Date(end)], tickformat: "%H:%M", nticks: 6 }, y: { title: "mean reward", nticks: 6 } },
    says: count(names.length, "version"),
  };
}

const JUDGEMENTS = [
  ["thumbs_up", "Thumbs up", "good"], ["thumbs_down", "Thumbs down", "bad"], ["criteria", "Rated in detail", "c1"], ["corrections", "Corrections", "c1"],
  ["duels", "Duels judged", "c3"], ["ties", "of them ties", "c3"], ["both_bad", "of them both bad", "c3"],
];

function feedback(snapshot) {
  const known = JUDGEMENTS.filter(([key]) => Number.isFinite(snapshot.feedback[key]));
  if (!known.some(([key]) => snapshot.feedback[key])) return null;
  const rows = known.map(([key, label]) => ({ label, value: snapshot.feedback[key] }));
  return {
    head: ["Judgement", "Count"],
    rows: rows.map((row) => [row.label, number(row.value, 0)]),
    traces: [bars(rows, known.map(([, , colour]) => themed(colour)))],
    how: { height: 290, x: { showgrid: false, showticklabels: false, rangemode: "tozero" }, y: { type: "category", autorange: "reversed", showgrid: false } },
    says: rows.map((row) => `${row.label}: ${row.value}`).join(", "),
  };
}

const REASONS = { length: "Too long", rate: "Too fast", words: "List of words", classifier: "Classifier" };

function blocks(snapshot) {
  const found = Object.entries(snapshot.blocks).sort((a, b) => b[1] - a[1]);
  if (!found.length) return null;
  const name = (reason) => (Object.hasOwn(REASONS, reason) ? REASONS[reason] : reason);
  const rows = found.map(([reason, n]) => ({ label: plain(name(reason), 24), value: n }));
  return {
    head: ["Reason", "Count"],
    rows: found.map(([reason, n]) => [name(reason), number(n, 0)]),
    traces: [bars(rows, themed("c2"))],
    how: { height: 60 + 40 * rows.length, x: { showgrid: false, showticklabels: false, rangemode: "tozero" }, y: { type: "category", autorange: "reversed", showgrid: false } },
    says: count(found.reduce((sum, [, n]) => sum + n, 0), "message"),
  };
}

function sides(snapshot) {
  const { rate, low, high, wins, losses } = snapshot.left_side;
  if (rate === null) return null;
  const oneSided = low > 0.5 || high < 0.5;
  const row = { label: "left", value: rate, low, high, hover: `${percent(rate)} (${interval(low, high, percent)})` };
  return {
    head: ["Share", "95% interval", "Left won", "Right won"],
    rows: [[percent(rate), interval(low, high, percent), number(wins, 0), number(losses, 0)]],
    traces: [dots([row], themed(oneSided ? "warn" : "c1"))],
    how: { height: 138, x: { range: [0, 1], tickformat: ".0%", nticks: 6, title: `left won ${wins} of ${wins + losses}` }, y: { type: "category", showticklabels: false, showgrid: false }, shapes: [upright(0.5)] },
    says: `${percent(rate)}, ${interval(low, high, percent)}${oneSided ? "; the interval leaves out one half" : ""}`,
    warns: oneSided ? "The interval leaves out one half: the side seems to sway people, or one version was mostly on one side." : "",
  };
}

export const FIGURES = {
  standings: { needs: (s) => [s.versions], make: standings, empty: "No duel between two versions has been judged yet. With a candidate in the registry, half of the duels set it against the live version; votes on pairs that were drawn by chance move the dots." },
  rewards: { needs: (s) => [s.rewards, s.versions.map((v) => v.name), Math.floor(s.time / 300)], make: rewards, empty: "No reply of the last day has a reward yet. Where the run has a reward model, each reply of the chat and the duels is scored in the background; the mean of each version is drawn here." },
  feedback: { needs: (s) => [s.feedback], make: feedback, empty: "Nobody has judged a reply yet. Thumbs, stars and corrections in the chat and choices in duels are counted here." },
  blocks: { needs: (s) => [s.blocks], make: blocks, empty: "The guardrails held nothing back in the last day. Messages that are too long, too many or unsafe, and unsafe replies, are counted here." },
  sides: { needs: (s) => [s.left_side], make: sides, empty: "No duel has been won yet. Once some are judged, the share that the left answer won shows whether people judge by the side." },
};
