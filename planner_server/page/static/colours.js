// Colour maps that stay readable for colour-blind eyes: dark to bright in even steps.

const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"];
const INFERNO = ["000004", "1b0c41", "4a0c6b", "781c6d", "a52c60", "cf4446", "ed6925", "fb9b06", "f7d13d", "fcffa4"];
const GAIN = ["8c3a04", "c4722a", "e6b98a", "f3f1ec", "94cfc1", "3a9c8a", "01665e"]; // worse, the same, better

const parsed = (stops) => stops.map((hex) => [0, 2, 4].map((start) => parseInt(hex.slice(start, start + 2), 16)));
const MAPS = { viridis: parsed(VIRIDIS), inferno: parsed(INFERNO), gain: parsed(GAIN) };

/** Return [r, g, b] of a share 0 to 1. */
export function colour(map, share) {
  const stops = MAPS[map];
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const index = Math.min(Math.floor(place), stops.length - 2);
  const rest = place - index;
  return stops[index].map((low, channel) => Math.round(low + rest * (stops[index + 1][channel] - low)));
}

export const rgb = (map, share, alpha = 1) => {
  const [r, g, b] = colour(map, share);
  return `rgba(${r},${g},${b},${alpha})`;
};

/** Lowest and highest number of nested lists. */
export function extent(values) {
  const flat = values.flat(Infinity).filter(Number.isFinite);
  return flat.length ? [Math.min(...flat), Math.max(...flat)] : [0, 1];
}
