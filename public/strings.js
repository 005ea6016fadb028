/**
 * All texts of the pages, by part. A value is a string, or a function of named
 * parameters that returns one.
 *
 * Elements of the HTML files contain the English text and name it: data-text (the text),
 * data-label (aria-label), data-placeholder, data-content (of a meta element). Child
 * elements have a data-slot, and stand in the text as {slot}.
 *
 * A translation is a file strings.LANG.js that exports an object `strings` of the type
 * Translation, and an entry in language.js. What it lacks stays English.
 */

export const strings = {
  common: {},
  home: {},
  pairing: {},
  share: {},
  call: {},
  devices: {},
  send: {},
  receive: {},
  status: {},
  reason: {},
  test: {},
  notFound: {
    title: 'No such page · inbox',
    description: 'This page does not exist.',
    heading: 'There is no such page.',
    lead: 'The address might be incomplete. Go to the {start}.',
    start: 'start page',
  },
};

/**
 * A translation of the texts: the same object, and every part of it can be missing.
 * @typedef {Partially<typeof strings>} Translation
 */
/**
 * @template T
 * @typedef {{[K in keyof T]?: T[K] extends (...args: infer A) => string ? (...args: A) => string
 *   : T[K] extends string ? string : Partially<T[K]>}} Partially
 */

// Modules that import the texts wait here, so that they only see translated ones.
const lang = globalThis.document?.documentElement.lang || 'en';
if (lang !== 'en') await (await import('./localize.js')).localize(strings, lang);
