/**
 * The status notice of a page: a title, a hint on what to do, and a countdown
 * while the server asks for a delay.
 */

/**
 * @typedef {import('./inbox.js').Inbox} Inbox
 * @typedef {import('./inbox.js').InboxError} InboxError
 * @typedef {'calm'|'busy'|'good'|'bad'} Tone
 * @typedef {{tone: Tone, title: string, hint?: string}} Notice
 */

/** The error notices of both pages. @satisfies {Record<string, Notice>} */
export const notices = {
  'bad-link': {tone: 'bad', title: 'This link is incomplete', hint: 'Copy the whole link again, or start over from the start page.'},
  'insecure': {tone: 'bad', title: 'This page is not on a secure connection', hint: 'Browsers only share a camera over HTTPS. Open the same address with https:// in front.'},
  'unsupported': {tone: 'bad', title: 'This browser cannot make video calls', hint: 'Use a current version of Firefox, Chrome, Edge or Safari.'},
  'superseded': {tone: 'busy', title: 'Opened in another tab', hint: 'Only the newest tab with this link is active.'},
  'offline': {tone: 'bad', title: 'This device is offline', hint: 'It reconnects automatically when the network is back.'},
  'unreachable': {tone: 'bad', title: 'The server cannot be reached', hint: 'Retrying automatically.'},
  'limited': {tone: 'bad', title: 'Too many requests', hint: 'The server asked this page to slow down. Retrying automatically.'},
  'full': {tone: 'bad', title: 'The server is full', hint: 'Retrying automatically.'},
  'stopping': {tone: 'busy', title: 'The server is restarting', hint: 'Retrying automatically.'},
  'store-unavailable': {tone: 'busy', title: 'The server cannot reach its store', hint: 'Its operator can see why. Retrying automatically.'},
  'locked': {tone: 'bad', title: 'This room is in use with another secret', hint: 'Copy the whole link again, or start over from the start page.'},
  'too-large': {tone: 'bad', title: 'This server accepts only small messages', hint: 'A call cannot be set up through it. Its operator can allow larger ones with -max-body-size.'},
  'forbidden': {tone: 'bad', title: 'The server does not accept requests from this page', hint: 'Open the page at the server’s own address, or ask its operator to allow this address with -cors-origins.'},
  'refused': {tone: 'bad', title: 'The server refused a request from this page', hint: 'Reload the page. If that does not help, tell the operator of the server.'},
  'unexpected': {tone: 'bad', title: 'The server gave an unexpected answer', hint: 'Retrying automatically.'},
  'intercepted': {tone: 'bad', title: 'Another page answers instead of the server', hint: 'It can be the sign-in page of a Wi-Fi network or of a proxy. Open a new tab to sign in. Retrying automatically.'},
  'proxy-login': {tone: 'bad', title: 'A proxy in front of the server asks for a login', hint: 'This page cannot answer it for /inbox and /ice. The operator of the proxy must protect the pages only.'},
  'proxy-refused': {tone: 'bad', title: 'A proxy in front of the server refused a request', hint: 'The request did not reach the server. Reload the page. If that does not help, tell the operator.'},
  'proxy-too-large': {tone: 'bad', title: 'A proxy in front of the server accepts only small messages', hint: 'A call cannot be set up through it. Its operator can allow larger ones.'},
  'proxy-limited': {tone: 'bad', title: 'A proxy in front of the server limits requests', hint: 'Retrying automatically.'},
  'proxy-failed': {tone: 'bad', title: 'A proxy cannot reach the server', hint: 'Retrying automatically.'},
};

/** @type {Map<number, Notice>} client errors with their own notice; 408 is temporary */
const clientErrorNotices = new Map([[401, notices.locked], [403, notices.forbidden], [408, notices.unexpected], [413, notices['too-large']]]);

/** @type {Map<number, Notice>} client errors of proxies with their own notice; 408 and 425 are temporary */
const proxyErrorNotices = new Map([
  [401, notices['proxy-login']], [407, notices['proxy-login']], [408, notices['proxy-failed']], [413, notices['proxy-too-large']],
  [425, notices['proxy-failed']], [429, notices['proxy-limited']], [511, notices.intercepted],
]);

/**
 * Returns the notice for an error status that is not from the inbox server.
 * @param {number} status
 */
function proxyNoticeFor(status) {
  return proxyErrorNotices.get(status) ?? notices[status >= 500 ? 'proxy-failed' : 'proxy-refused'];
}

/**
 * Returns the notice for an error.
 * @param {Pick<InboxError, 'code' | 'status'>} error
 */
export function noticeFor(error) {
  if (error.code === 'network') return navigator.onLine ? notices.unreachable : notices.offline;
  if (error.code === 'intercepted') return notices.intercepted;
  if (error.code === 'refused') return proxyNoticeFor(error.status);
  if (error.code === 'stopping' || error.code === 'store-unavailable') return notices[error.code];
  if (error.status === 429) return notices.limited;
  if (error.status === 503) return notices.full;
  return clientErrorNotices.get(error.status) ?? (error.status >= 400 && error.status < 500 ? notices.refused : notices.unexpected);
}

/** StatusView shows a notice. Screen readers announce its text, but not the countdown. */
export class StatusView {
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #root;

  /** @param {HTMLElement} root */
  constructor(root) {
    this.#root = root;
  }

  /**
   * @param {Notice} notice
   * @param {number} [until] the time of the next attempt, in milliseconds as from Date.now()
   */
  show({tone, title, hint = ''}, until = 0) {
    this.#root.dataset.tone = tone;
    this.#setText('.status-title', title);
    this.#setText('.status-hint', hint);
    clearInterval(this.#timer);
    this.#updateCountdown(until);
    if (until > Date.now()) this.#timer = setInterval(() => this.#updateCountdown(until), 500);
  }

  /** @param {number} until */
  #updateCountdown(until) {
    const seconds = Math.ceil((until - Date.now()) / 1000);
    this.#setText('.status-countdown', seconds > 0 ? `Next try in ${seconds} s.` : '');
    if (seconds <= 0) clearInterval(this.#timer);
  }

  /**
   * Sets the text of an element if it changed, so that screen readers do not
   * announce it twice.
   * @param {string} selector
   * @param {string} text
   */
  #setText(selector, text) {
    const element = this.#root.querySelector(selector);
    if (element && element.textContent !== text) element.textContent = text;
  }
}

/** ConnectionStatus tracks the current error of an inbox, if any. */
export class ConnectionStatus {
  /** @type {Notice | null} */
  notice = null;
  until = 0;

  /**
   * @param {Inbox} inbox
   * @param {() => void} onChange
   */
  constructor(inbox, onChange) {
    inbox.addEventListener('error', event => {
      const {detail} = /** @type {CustomEvent<InboxError>} */ (event);
      if (!detail.retryIn) return; // a rejected message: its sender handles the error
      this.#set(noticeFor(detail), detail.retryAfter ? Date.now() + detail.retryIn * 1000 : 0, onChange);
    });
    inbox.addEventListener('status', () => {
      if (inbox.status === 'superseded') this.#set(notices.superseded, 0, onChange);
      if (inbox.status === 'open') this.#set(null, 0, onChange);
    });
  }

  /**
   * @param {Notice | null} notice
   * @param {number} until
   * @param {() => void} onChange
   */
  #set(notice, until, onChange) {
    this.notice = notice;
    this.until = until;
    onChange();
  }
}
