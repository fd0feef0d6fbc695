// Moments and durations in words and figures.
import { html } from './markup.js';

const DAY_MS = 86_400_000;
const CLOCK = { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' };
const time = new Intl.DateTimeFormat(undefined, { ...CLOCK, second: '2-digit' });
const dayAndTime = new Intl.DateTimeFormat(undefined, {
  ...CLOCK, month: 'short', day: 'numeric', second: '2-digit',
});
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });
const minute = new Intl.DateTimeFormat(undefined, CLOCK);
const two = (number) => String(number).padStart(2, '0');

export const timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone;

export const hourAndMinute = (iso) => minute.format(new Date(iso));

// null: for ever.
export const endOf = (blockedUntil) => (blockedUntil === null ? Infinity : Date.parse(blockedUntil));

// 14m 03s · 23h 59m 58s · 6d 04h 12m 33s · for ever. Rounded up: 0s is never shown while it lasts.
export function duration(ms) {
  if (ms === Infinity) return 'for ever';
  const seconds = Math.max(0, Math.ceil(ms / 1_000));
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  const shown = parts.slice(first < 0 ? 3 : first);
  return shown.map(([number, unit], place) => (place ? two(number) : number) + unit).join(' ');
}

// Of a short while, such as a lag: 35 ms · 1.2 s · 3m 20s.
export function shortWhile(ms) {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  return duration(ms);
}

// A moment in the reader's own time zone; with its day unless that is within 12 hours.
export function Moment({ iso, now }) {
  if (iso === null) return 'for ever';
  const moment = new Date(iso);
  const near = Math.abs(moment - now) < DAY_MS / 2;
  return html`<time datetime=${iso} title=${`${whole.format(moment)} (${iso})`}>
    ${(near ? time : dayAndTime).format(moment)}
  </time>`;
}
