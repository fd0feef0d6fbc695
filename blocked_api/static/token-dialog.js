// Asks for the Blocked API's bearer token; the tab's session storage keeps it.
import { canBeToken, hasToken, keepToken } from './api.js';
import { Dialog } from './dialog.js';
import { html, useState } from './markup.js';

export function TokenDialog({ onToken }) {
  const [problem, setProblem] = useState(hasToken() ? 'That token was refused.' : '');
  const submit = (event) => {
    event.preventDefault();
    const token = event.currentTarget.elements.token.value.trim();
    if (!canBeToken(token)) {
      setProblem('A token has no spaces and no letters beyond ASCII.');
      return;
    }
    keepToken(token);
    onToken();
  };
  return html`<${Dialog} title="Token of the Blocked API" onClose=${(event) => event.currentTarget.showModal()}>
    <form onSubmit=${submit}>
      <p>This Blocked API answers only with its token, <code>BLOCKED_API_TOKEN</code>.
        This tab keeps it until it is closed.</p>
      <label>Token
        <input name="token" type="password" required autocomplete="off" aria-describedby="token-problem" />
      </label>
      <p id="token-problem" class="answer bad" role="alert">${problem}</p>
      <div class="buttons"><button type="submit">Go on</button></div>
    </form>
  <//>`;
}
