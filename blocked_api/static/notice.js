// What is wrong, and what to do about it, in words.
import { html } from './markup.js';

export function explain(error) {
  if (error.status === 0) {
    return [error.message, 'Is it running, and can this computer reach it? This page tries again by itself.'];
  }
  if (error.status === 503) {
    return [
      'The block list cannot be read now.',
      'Redis is away, or empty with no detector reporting: look at both. This page tries again by itself.',
    ];
  }
  if (error.status === 401) return ['A token is needed.', 'Enter it in the dialog.'];
  if (error.status === 429) return ['Too many requests.', 'This page tries again by itself.'];
  if (error.status >= 500) {
    return ['The Blocked API failed.', 'Its log tells why. This page tries again by itself.'];
  }
  return ['The Blocked API refused the question.', error.message];
}

// `readAgain` null: without a button.
export function Failure({ error, readAgain = null, children }) {
  const [what, todo] = explain(error);
  return html`<div class="notice bad">
    <p><strong>${what}</strong> ${todo} ${children}</p>
    ${readAgain && html`<button type="button" onClick=${readAgain}>Try now</button>`}
  </div>`;
}
