// Calls of the Blocked API: the bearer token, the server's clock, failures in one form.
import { learnServerTime } from './clock.js';

const TOKEN_KEY = 'blocked-api-token';

// `status` 0: no answer at all. `retryAfterMs` null: the answer does not say.
export class ApiError extends Error {
  constructor(status, message, retryAfterMs = null) {
    super(message);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
}

// A header carries no other characters.
export const canBeToken = (text) => /^[\x21-\x7e]+$/.test(text);

export const hasToken = () => sessionStorage.getItem(TOKEN_KEY) !== null;

export const keepToken = (token) => sessionStorage.setItem(TOKEN_KEY, token);

let tellTokenWanted = () => {};

// `listener` is called on each 401.
export function whenTokenWanted(listener) {
  tellTokenWanted = listener;
}

// Throws ApiError for any status but 2xx; an AbortError when the signal says so.
export async function open(path, { signal, headers = {} } = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const authorization = token === null ? {} : { Authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch(path, {
      signal, cache: 'no-store', credentials: 'omit', headers: { ...headers, ...authorization },
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The Blocked API does not answer.');
  }
  learnServerTime(response.headers.get('Date'));
  if (response.ok) return response;
  if (response.status === 401) tellTokenWanted();
  const seconds = Number(response.headers.get('Retry-After') ?? NaN);
  const retryAfterMs = Number.isFinite(seconds) ? seconds * 1_000 : null;
  throw new ApiError(response.status, await errorOf(response), retryAfterMs);
}

export async function read(path, signal) {
  const response = await open(path, { signal, headers: { Accept: 'application/json' } });
  try {
    return await response.json();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, 'The Blocked API’s answer broke off or is no JSON.');
  }
}

export async function errorOf(response) {
  try {
    return String((await response.json()).error);
  } catch {
    return `The answer was status ${response.status}.`;
  }
}
