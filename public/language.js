/**
 * Chooses the language of the page before it is painted. The script is not a module,
 * because a browser paints before it runs modules. strings.js loads the texts.
 *
 * A translation is a file strings.LANG.js (see strings.js) and its name in this list.
 */

{
  /** The languages besides English, as in BCP 47: 'de', 'pt-BR'. @type {string[]} */
  const translations = [];
  /** Languages that are written from right to left. */
  const rightToLeft = ['ar', 'ckb', 'dv', 'fa', 'he', 'ps', 'sd', 'ug', 'ur', 'yi'];

  /** @param {string} tag */
  const primary = tag => tag.split('-')[0];

  /**
   * Returns the first language of the user that the pages have. A user of en-GB gets
   * English, and one of pt-PT gets pt-BR if that is the only Portuguese.
   * @param {readonly string[]} wanted
   */
  const choose = wanted => {
    const offered = ['en', ...translations];
    for (const tag of wanted.map(tag => tag.toLowerCase())) {
      const found = offered.find(other => other.toLowerCase() === tag) ??
        offered.find(other => primary(other) === primary(tag));
      if (found) return found;
    }
    return 'en';
  };

  const lang = choose(navigator.languages ?? [navigator.language]);
  if (lang !== 'en') {
    const root = document.documentElement;
    root.lang = lang;
    root.dir = rightToLeft.includes(primary(lang)) ? 'rtl' : 'ltr';
    root.dataset.translating = ''; // the style sheet hides the English texts; localize.js shows the page
  }
}
