/** Replaces the English texts by those of another language, which only pages in that language load. */

/** The directory of the modules. In a bundle, this module is one directory below them. */
const directory = new URL(import.meta.url.replace(/bundles\/[^/]*$/, '')).href;

/** @typedef {{[key: string]: unknown}} Texts */

/** The attributes that name a text, and where it is shown. */
const targets = /** @type {const} */ ({
  text: null, // the text of the element
  label: 'aria-label',
  placeholder: 'placeholder',
  content: 'content', // of a meta element
});

/**
 * Translates all texts, and the document. If the translation cannot be loaded, the page
 * stays English.
 * @param {Texts} strings the English texts that the page has; they are replaced in place
 * @param {string} lang the language that language.js has chosen
 * @param {(lang: string) => Promise<{strings: Texts}>} [load]
 */
export async function localize(strings, lang, load = lang => import(new URL(`strings.${lang}.js`, directory).href)) {
  const root = document.documentElement;
  try {
    const translation = (await load(lang)).strings;
    replaceTexts(strings, translation);
    // The parts that a page loads later have texts of their own. By then, the page has changed its elements.
    if ('translating' in root.dataset) translate(document, translation);
  } catch (error) {
    console.warn(`no texts in the language ${lang}`, error);
    root.lang = 'en';
    root.dir = 'ltr';
  } finally {
    delete root.dataset.translating;
  }
}

/**
 * Replaces texts by those of a translation. A text that the translation lacks, or has as
 * another kind of value, stays English.
 * @param {Texts} strings
 * @param {Texts} translation
 */
export function replaceTexts(strings, translation) {
  for (const [key, text] of Object.entries(strings)) {
    const translated = translation[key];
    if (typeof translated !== typeof text) continue;
    if (typeof text === 'object') replaceTexts(/** @type {Texts} */ (text), /** @type {Texts} */ (translated));
    else strings[key] = translated;
  }
}

/**
 * Sets the texts of all elements that name one. Those that a translation lacks stay English.
 * @param {ParentNode} parent
 * @param {Texts} strings
 */
export function translate(parent, strings) {
  for (const [name, attribute] of Object.entries(targets)) {
    for (const element of parent.querySelectorAll(`[data-${name}]`)) {
      const text = lookUp(strings, /** @type {string} */ (element.getAttribute(`data-${name}`)));
      if (text === undefined) continue;
      if (attribute) element.setAttribute(attribute, text);
      else setText(element, text);
    }
  }
}

/**
 * Returns the text with a name such as 'home.title', or undefined.
 * @param {Texts} strings
 * @param {string} name
 */
export function lookUp(strings, name) {
  /** @type {unknown} */
  let value = strings;
  for (const key of name.split('.')) value = /** @type {Texts | undefined} */ (value)?.[key];
  return typeof value === 'string' ? value : undefined;
}

/**
 * Sets the text of an element. Its child elements, such as links, take the places of
 * their {names} in the text.
 * @param {Element} element
 * @param {string} text
 */
function setText(element, text) {
  const parts = text.split(/\{(\w+)\}/); // text and names in turn
  element.replaceChildren(...parts.map((part, i) =>
    i % 2 ? element.querySelector(`[data-slot="${part}"]`) ?? '' : part));
}
