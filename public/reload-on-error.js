/**
 * Reloads a page when one of its scripts or style sheets fails to load. A page
 * makes several requests, and the server can reject some of them with 429. The
 * script waits until the server responds again, then reloads.
 *
 * It must not import anything, because the import itself could fail.
 */

{
  /** The directory of the modules. In a bundle, this script is one directory below them. */
  const directory = /** @type {HTMLScriptElement} */ (document.currentScript).src.replace(/(bundles\/)?[^/]*$/, '');
  /** Seconds before the first reload. */
  const INITIAL_DELAY = 5;
  /** Maximum seconds before a reload, without jitter. */
  const MAX_DELAY = 60;

  let scheduled = false;
  /** The number of failed loads so far. The history entry keeps it across reloads. */
  const failedLoads = Number(history.state?.failedLoads) || 0;

  /** @param {string} selector @param {string} text */
  const setText = (selector, text) => {
    const element = document.querySelector(selector);
    if (element) element.textContent = text;
  };

  /** As in strings.js, which can be the file that did not load. */
  const texts = {
    title: 'This page did not load completely',
    hint: 'The server is busy or unreachable. This page reloads automatically.',
    nextTry: (/** @type {{seconds: number}} */ {seconds}) => `Next try in ${seconds} s.`,
  };

  const showNotice = () => {
    document.body.dataset.state = 'failed';
    document.querySelector('.status')?.setAttribute('data-tone', 'bad');
    setText('.status-title', texts.title);
    setText('.status-hint', texts.hint);
  };

  /** Shows the notice in the language of the page, if its texts load. */
  const translateNotice = async () => {
    if (document.documentElement.lang === 'en') return;
    const {status} = await import(new URL('strings.js', directory).href);
    Object.assign(texts, status.notLoaded, {nextTry: status.nextTry});
    showNotice();
  };

  /** @param {number} seconds */
  const countDown = async seconds => {
    for (let left = Math.ceil(seconds); left > 0; left--) {
      setText('.status-countdown', texts.nextTry({seconds: left}));
      await new Promise(resolve => setTimeout(resolve, 1_000));
    }
    setText('.status-countdown', '');
  };

  /**
   * Returns 0 if the server responds, else the seconds until the next probe. A
   * reload without a response would show the browser's error page. After a 401 of a
   * proxy, the reload sends the login of the user.
   */
  const probe = async () => {
    try {
      const {ok, status, headers} = await fetch(location.pathname, {method: 'HEAD', cache: 'no-store', credentials: 'omit'});
      return ok || status === 401 ? 0 : Number(headers.get('Retry-After')) || INITIAL_DELAY;
    } catch {
      return INITIAL_DELAY;
    }
  };

  const scheduleReload = async () => {
    if (scheduled) return;
    scheduled = true;
    showNotice();
    translateNotice().catch(() => {}); // it stays English
    let delay = Math.min(MAX_DELAY, INITIAL_DELAY * 2 ** failedLoads) * (1 + Math.random() / 4); // jitter
    do {
      await countDown(delay);
    } while ((delay = await probe()) > 0);
    history.replaceState({failedLoads: failedLoads + 1}, '');
    location.reload();
  };

  // Load errors do not bubble, so the listener captures them. Exceptions in a script have no element as target.
  addEventListener('error', event => {
    const {target} = event;
    if (!(target instanceof HTMLScriptElement || target instanceof HTMLLinkElement)) return;
    if (document.readyState !== 'loading') void scheduleReload();
    else addEventListener('DOMContentLoaded', () => scheduleReload(), {once: true});
  }, true);
  addEventListener('moduleerror', () => scheduleReload()); // of a module that page.js loads later
}
