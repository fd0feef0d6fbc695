// The time by the server's clock, and one tick a second for all that counts down.
import { useEffect, useState } from './markup.js';

// The Date header has whole seconds: a smaller difference is no difference.
const TOLERATED_MS = 2_000;

let offsetMs = 0;
const listeners = new Set();
let timer = null;

export function now() {
  return Date.now() + offsetMs;
}

export function learnServerTime(dateHeader) {
  const server = Date.parse(dateHeader ?? '');
  if (Number.isNaN(server)) return;
  const difference = server + 500 - Date.now();
  offsetMs = Math.abs(difference) < TOLERATED_MS ? 0 : difference;
}

// The present, anew each second; the component is drawn again with it.
export function useNow() {
  const [, setTime] = useState(0);
  useEffect(() => {
    const listener = () => setTime(now());
    listeners.add(listener);
    if (timer === null) timer = setInterval(() => listeners.forEach((tell) => tell()), 1_000);
    return () => {
      listeners.delete(listener);
      if (listeners.size > 0) return;
      clearInterval(timer);
      timer = null;
    };
  }, []);
  return now();
}
