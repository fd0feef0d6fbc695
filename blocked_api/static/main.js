import { App } from './app.js';
import { html, render } from './markup.js';

const root = document.getElementById('app');
root.replaceChildren();
render(html`<${App} />`, root);
