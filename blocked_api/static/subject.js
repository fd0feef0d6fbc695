// A subject as it is shown and addressed. Names are a stranger's text.
import { html } from './markup.js';

export const TYPE_WORDS = { user: 'user', ip: 'address' };

export const keyOf = ({ subject_type: type, subject }) => `${type}:${subject}`;

// What has no glyph of its own, turns the direction of writing, or looks like a space.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]|(?! )\p{Zs}/u;
const UNSEEN_RUN = new RegExp(`(${UNSEEN.source})`, 'gu');

const codePoint = (character) =>
  `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`;

export const visible = (text) => text.replace(UNSEEN_RUN, (one) => `‹${codePoint(one)}›`);

export function Name({ text }) {
  const parts = text.split(UNSEEN_RUN).filter((part) => part !== '' && part !== undefined);
  return html`<bdi class="name" dir="auto" title=${visible(text)}>${parts.map((part) => (
    UNSEEN.test(part) ? html`<span class="unseen">${codePoint(part)}</span>` : part
  ))}</bdi>`;
}

export const subjectHash = ({ subject_type: type, subject }) =>
  `#/${type}/${encodeURIComponent(subject)}`;

// "." and ".." would be steps of the path; the API trims the space off.
const pathSegment = (subject) => (/^\.{1,2}$/.test(subject) ? '%20' : '') + encodeURIComponent(subject);

export const blocksPath = ({ subject_type: type, subject }) =>
  `blocked/${type === 'user' ? 'users' : 'ips'}/${pathSegment(subject)}`;

export const historyPath = ({ subject_type: type, subject }) =>
  `blocked/history?${new URLSearchParams({ subject_type: type, subject })}`;

export function SubjectLink({ of }) {
  return html`<a class="subject" href=${subjectHash(of)}><${Name} text=${of.subject} /></a>`;
}

// The page that a hash names: `{subject}` or `{subject: null}` for the list.
export function route(hash) {
  const match = /^#\/(user|ip)\/(.+)$/s.exec(hash);
  if (match === null) return { subject: null };
  try {
    return { subject: { subject_type: match[1], subject: decodeURIComponent(match[2]) } };
  } catch {
    return { subject: null };
  }
}
