// Asks who unblocks and why, and gives the command to the Login API.
import { canBeToken, errorOf } from './api.js';
import { Dialog } from './dialog.js';
import { html, useState } from './markup.js';
import { Name, TYPE_WORDS } from './subject.js';

const LONGEST_TEXT = 500;

// For the next unblock of this page's life; never stored.
const remembered = { token: '', by: '' };

async function unblock(loginApi, { token, by, reason }, subject) {
  let response;
  try {
    response = await fetch(`${loginApi.replace(/\/+$/, '')}/admin/unblock`, {
      method: 'POST',
      mode: 'cors',
      credentials: 'omit',
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      body: JSON.stringify({ ...subject, by, reason }),
    });
  } catch {
    return ['bad', `No answer from ${loginApi}: it is away, or does not let this page ask it. Nothing was changed as far as is known.`];
  }
  if (response.ok) return ['good', 'Accepted.'];
  if (response.status === 401) return ['bad', 'The token is wrong. Nothing was changed.'];
  if (response.status === 403) {
    return ['bad', 'The Login API has no operators’ token set (LOGIN_API_ADMIN_TOKEN), so it takes no commands. Nothing was changed.'];
  }
  return ['bad', `Refused: ${await errorOf(response)}`];
}

// As a property: an attribute would show the token in the markup.
function fillToken(input) {
  if (input !== null && input.value === '') input.value = remembered.token;
}

export function UnblockDialog({ subject, loginApi, stillBlocked, onClose }) {
  const [[mood, words], setAnswer] = useState(['', '']);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    const { token, by, reason } = Object.fromEntries(new FormData(event.currentTarget));
    if (!canBeToken(token.trim())) {
      setAnswer(['bad', 'A token has no spaces and no letters beyond ASCII.']);
      return;
    }
    Object.assign(remembered, { token: token.trim(), by: by.trim() });
    setBusy(true);
    setAnswer(['', 'Asking…']);
    setAnswer(await unblock(loginApi, { ...remembered, reason: reason.trim() }, subject));
    setBusy(false);
  };
  const done = mood === 'good';
  const effect = stillBlocked ? 'The blocks end within seconds; this page follows.' : 'It is blocked no longer.';
  return html`<${Dialog} title="Unblock" onClose=${onClose}>
    <form onSubmit=${submit}>
      <p>Ends all blocks of ${TYPE_WORDS[subject.subject_type]} <${Name} text=${subject.subject} />.
        Who and why go into the audit trail.</p>
      <label>Operator token
        <input name="token" type="password" required autocomplete="off" ref=${fillToken} disabled=${done} />
      </label>
      <label>Who are you?
        <input name="by" required maxlength=${LONGEST_TEXT} autocomplete="off" defaultValue=${remembered.by} disabled=${done} />
      </label>
      <label>Why?
        <input name="reason" required maxlength=${LONGEST_TEXT} autocomplete="off" disabled=${done} />
      </label>
      <p class=${`answer ${mood}`} role="status">${words} ${done && effect}</p>
      <div class="buttons">
        <button type="button" class="plain" onClick=${onClose}>${done ? 'Close' : 'Cancel'}</button>
        ${!done && html`<button type="submit" disabled=${busy}>Unblock</button>`}
      </div>
    </form>
  <//>`;
}
