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
  const FIRST = 5;
  const LONGEST = 60;

  let waiting = false;
  /** How often this page was loaded in vain; the history keeps it over a reload. */
  const vain = Number(history.state?.vain) || 0;

  /** @param {string} selector @param {string} text */
  const write = (selector, text) => {
    const element = document.querySelector(selector);
    if (element) element.textContent = text;
  };

  const explain = () => {
    document.body.dataset.state = 'refused';
    document.querySelector('.status')?.setAttribute('data-tone', 'bad');
    write('.status-title', 'This page did not load completely');
    write('.status-hint', 'The server is busy or out of reach. Loading again by itself.');
  };

  /** @param {number} seconds */
  const countDown = async seconds => {
    for (let left = Math.ceil(seconds); left > 0; left--) {
      write('.status-countdown', `Next try in ${left} s.`);
      await new Promise(resolve => setTimeout(resolve, 1_000));
    }
    write('.status-countdown', '');
  };

  /** Seconds to wait on, 0 when the server answers again: a reload without an answer would end in the browser's own page. */
  const probe = async () => {
    try {
      const {ok, headers} = await fetch(location.pathname, {method: 'HEAD', cache: 'no-store', credentials: 'omit'});
      return ok ? 0 : Number(headers.get('Retry-After')) || FIRST;
    } catch {
      return FIRST;
    }
  };

  const loadAgain = async () => {
    if (waiting) return;
    waiting = true;
    explain();
    let pause = Math.min(LONGEST, FIRST * 2 ** vain) * (1 + Math.random() / 4); // spread: many pages may wait
    do {
      await countDown(pause);
    } while ((pause = await probe()) > 0);
    history.replaceState({vain: vain + 1}, '');
    location.reload();
  };

  // These errors do not bubble. Only what could not be loaded has them; a mistake in a script is another event.
  addEventListener('error', event => {
    const {target} = event;
    if (!(target instanceof HTMLScriptElement || target instanceof HTMLLinkElement)) return;
    if (document.readyState !== 'loading') void loadAgain();
    else addEventListener('DOMContentLoaded', () => loadAgain(), {once: true});
  }, true);
}
