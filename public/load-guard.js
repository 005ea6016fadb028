/**
 * Stands before a page's own script, and is needed only when that cannot be
 * loaded: the server limits requests, and a page with its modules makes more than a
 * dozen. Such a page would stand still for ever; it is loaded again instead,
 * once the server answers and has had some time.
 *
 * It imports nothing, since any import may be what is missing.
 */

{
  /** Seconds before the page is loaded again: the first time, and at most. */
  const INITIAL_DELAY = 5;
  const MAX_DELAY = 60;

  let scheduled = false;
  /** How often this page was loaded in vain; the history keeps it over a reload. */
  const failedLoads = Number(history.state?.failedLoads) || 0;

  /** @param {string} selector @param {string} text */
  const setText = (selector, text) => {
    const element = document.querySelector(selector);
    if (element) element.textContent = text;
  };

  const showNotice = () => {
    document.body.dataset.state = 'failed';
    document.querySelector('.status')?.setAttribute('data-tone', 'bad');
    setText('.status-title', 'This page did not load completely');
    setText('.status-hint', 'The server is busy or out of reach. Loading again by itself.');
  };

  /** @param {number} seconds */
  const countDown = async seconds => {
    for (let left = Math.ceil(seconds); left > 0; left--) {
      setText('.status-countdown', `Next try in ${left} s.`);
      await new Promise(resolve => setTimeout(resolve, 1_000));
    }
    setText('.status-countdown', '');
  };

  /** Seconds to wait on, 0 when the server answers again: a reload without an answer would end in the browser's own page. */
  const probe = async () => {
    try {
      const {ok, headers} = await fetch(location.pathname, {method: 'HEAD', cache: 'no-store', credentials: 'omit'});
      return ok ? 0 : Number(headers.get('Retry-After')) || INITIAL_DELAY;
    } catch {
      return INITIAL_DELAY;
    }
  };

  const scheduleReload = async () => {
    if (scheduled) return;
    scheduled = true;
    showNotice();
    let delay = Math.min(MAX_DELAY, INITIAL_DELAY * 2 ** failedLoads) * (1 + Math.random() / 4); // spread: many pages may wait
    do {
      await countDown(delay);
    } while ((delay = await probe()) > 0);
    history.replaceState({failedLoads: failedLoads + 1}, '');
    location.reload();
  };

  // These errors do not bubble. Only what could not be loaded has them; a mistake in a script is another event.
  addEventListener('error', event => {
    const {target} = event;
    if (!(target instanceof HTMLScriptElement || target instanceof HTMLLinkElement)) return;
    if (document.readyState !== 'loading') void scheduleReload();
    else addEventListener('DOMContentLoaded', () => scheduleReload(), {once: true});
  }, true);
}
