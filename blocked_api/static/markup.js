// Markup for components: htm over Preact, and the hooks, from one place.
import htm from './vendor/htm.mjs';
import { h } from './vendor/preact.mjs';

export { render } from './vendor/preact.mjs';
export {
  useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState,
} from './vendor/preact-hooks.mjs';

// Text goes in as text nodes only: nothing here makes markup of what the API answers.
export const html = htm.bind(h);
