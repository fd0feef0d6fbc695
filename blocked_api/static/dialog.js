// A modal <dialog>: the browser holds the focus in it and gives it back afterwards.
import { html, useEffect, useRef } from './markup.js';

export function Dialog({ title, onClose, children }) {
  const dialog = useRef(null);
  useEffect(() => {
    const opener = document.activeElement;
    dialog.current.showModal();
    return () => (opener?.isConnected ? opener : document.getElementById('main'))?.focus();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${onClose}>
    <article>
      <h2 id="dialog-title">${title}</h2>
      ${children}
    </article>
  </dialog>`;
}
