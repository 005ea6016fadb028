/**
 * Tests strings.js, language.js and localize.js: the HTML files contain the English
 * texts, and a made-up language replaces all of them.
 */

import assert from 'node:assert/strict';
import {readFileSync, readdirSync} from 'node:fs';
import {afterEach, test} from 'node:test';
import {runInNewContext} from 'node:vm';
import {localize, lookUp, replaceTexts, translate} from '../../../public/localize.js';
import * as strings from '../../../public/strings.js';
import {Element, htmlNames, parse, parsePage, publicURL} from '../lib/html.js';

/** @typedef {import('../../../public/localize.js').Texts} Texts */

const attributeOf = {label: 'aria-label', placeholder: 'placeholder', content: 'content'};

/** @param {string} text */
const collapse = text => text.replace(/\s+/g, ' ').trim();

/**
 * Returns the text of an element, with a {name} for each child element that has one.
 * @param {Element} element
 */
function textWithSlots(element) {
  return collapse(element.children.map(child =>
    typeof child === 'string' ? child : `{${child.getAttribute('data-slot')}}`).join(''));
}

for (const name of htmlNames) {
  test(`${name} contains the texts it names`, () => {
    const page = parsePage(name);
    for (const element of page.descendants) {
      const text = element.getAttribute('data-text');
      if (text) assert.equal(textWithSlots(element), lookUp(strings, text), text);
      for (const [kind, attribute] of Object.entries(attributeOf)) {
        const key = element.getAttribute(`data-${kind}`);
        if (key) assert.equal(element.getAttribute(attribute), lookUp(strings, key), key);
      }
    }
  });
  test(`${name} names all its texts`, () => {
    assert.deepEqual(unnamedTexts(parsePage(name)), []);
  });
}

/**
 * Returns the texts that a translation cannot replace. Elements with translate="no" have
 * none to replace.
 * @param {Element} element
 * @returns {string[]}
 */
function unnamedTexts(element) {
  if (element.getAttribute('translate') === 'no') return [];
  const own = element.children.filter(child => typeof child === 'string').join('');
  const found = /\p{L}/u.test(own) && !element.getAttribute('data-text') ? [collapse(own)] : [];
  for (const [kind, attribute] of Object.entries(attributeOf)) {
    if (element.name === 'meta' && element.getAttribute('name') !== 'description') continue;
    if (element.getAttribute(attribute) && !element.getAttribute(`data-${kind}`)) found.push(`${attribute}=${element.getAttribute(attribute)}`);
  }
  return [...found, ...element.elements.flatMap(unnamedTexts)];
}

test('every text is a string or a function', () => {
  for (const [name, text] of entries(strings)) {
    assert.ok(['string', 'function'].includes(typeof text), `${name}: ${typeof text}`);
    if (!name.startsWith('test.findings.')) assert.notEqual(text, '', name); // a finding can have no advice
  }
});

/**
 * Returns all texts with their names.
 * @param {Texts} texts
 * @returns {[string, unknown][]}
 */
function entries(texts, prefix = '') {
  return Object.entries(texts).flatMap(([key, value]) =>
    typeof value === 'object' && value ? entries(/** @type {Texts} */ (value), `${prefix}${key}.`) : [[prefix + key, value]]);
}


/** @param {Texts} texts @returns {Texts} the made-up language: the texts in brackets */
function bracketed(texts) {
  return Object.fromEntries(Object.entries(texts).map(([key, value]) => [key,
    typeof value === 'string' ? `[${value}]` :
    typeof value === 'function' ? (/** @type {unknown[]} */ ...args) => `[${value(...args)}]` : bracketed(/** @type {Texts} */ (value))]));
}

for (const name of htmlNames) {
  test(`${name} in another language`, () => {
    const page = parsePage(name);
    translate(/** @type {any} */ (page), bracketed(strings));
    const named = page.descendants.filter(element => element.getAttribute('data-text'));
    for (const element of named) assert.match(collapse(element.textContent), /^\[.*\]$/);
    assert.equal(page.querySelectorAll('a').length, parsePage(name).querySelectorAll('a').length, 'links');
  });
}

test('child elements take the places of their names', () => {
  const page = parse('<p data-text="a.text">Go to <a href="/" data-slot="start" data-text="a.start">start</a> or <b data-slot="end">end</b>.</p>');
  translate(/** @type {any} */ (page), {a: {text: '{end} before {start}!', start: 'begin'}});
  assert.equal(page.textContent, 'end before begin!');
  assert.equal(page.querySelector('a')?.getAttribute('href'), '/');
});

test('missing texts, and texts of another kind, stay English', () => {
  const texts = {a: {one: 'one', two: () => 'two'}, b: {three: 'three'}, c: 'four'};
  replaceTexts(texts, {a: {one: 'eins', two: 'zwei'}, c: {}, d: 'fünf'});
  assert.deepEqual([texts.a.one, texts.a.two(), texts.b.three, texts.c], ['eins', 'two', 'three', 'four']);
  assert.ok(!('d' in texts));
});

/**
 * Runs language.js for a user, and returns the root element of the page.
 * @param {string[]} languages of the user
 * @param {string[]} translations of the pages
 */
function choose(languages, translations) {
  const source = readFileSync(new URL('language.js', publicURL), 'utf8');
  const list = `const translations = ${JSON.stringify(translations)};`;
  assert.match(source, /const translations = \[.*\];/);
  const root = {lang: 'en', dir: '', dataset: /** @type {Record<string, string>} */ ({})};
  const globals = {navigator: {languages, language: languages[0]}, document: {documentElement: root}};
  runInNewContext(source.replace(/const translations = \[.*\];/, list), globals);
  return root;
}

for (const [languages, translations, want] of /** @type {[string[], string[], string][]} */ ([
  [['de-DE', 'de', 'en'], [], 'en'],
  [['de-DE', 'de', 'en'], ['de'], 'de'],
  [['en-GB', 'de'], ['de'], 'en'],
  [['fr', 'de', 'en'], ['de'], 'de'],
  [['fr'], ['de'], 'en'],
  [['pt-PT'], ['pt-BR'], 'pt-BR'],
  [['pt-br'], ['pt-PT', 'pt-BR'], 'pt-BR'],
  [['eng', 'de'], ['de'], 'de'],
  [[], ['de'], 'en'],
])) {
  test(`a user of ${languages} gets ${want} of en,${translations}`, () => {
    const root = choose(languages, translations);
    assert.equal(root.lang, want);
    assert.equal('translating' in root.dataset, want !== 'en', 'hidden until it is translated');
  });
}

test('the direction of the text', () => {
  assert.equal(choose(['ar-EG'], ['ar', 'de']).dir, 'rtl');
  assert.equal(choose(['de'], ['ar', 'de']).dir, 'ltr');
  assert.equal(choose(['en'], ['ar', 'de']).dir, '');
});

afterEach(() => void delete (/** @type {any} */ (globalThis).document));

/** Installs a page in a language as the document. @param {string} lang */
function installDocument(lang) {
  const page = /** @type {any} */ (parse('<h1 data-text="home.title">Hello</h1>'));
  page.documentElement = {lang, dir: 'rtl', dataset: {translating: ''}};
  /** @type {any} */ (globalThis).document = page;
  return page;
}

test('a translated page is shown', async () => {
  const page = installDocument('ar');
  const texts = {home: {title: 'Hello', lead: 'World'}};
  await localize(texts, 'ar', async () => ({strings: {home: {title: 'مرحبا'}}}));
  assert.deepEqual(texts, {home: {title: 'مرحبا', lead: 'World'}});
  assert.equal(page.textContent, 'مرحبا');
  assert.deepEqual(page.documentElement, {lang: 'ar', dir: 'rtl', dataset: {}});
});

test('a page without its translation is shown in English', async t => {
  const warn = t.mock.method(console, 'warn', () => {});
  const page = installDocument('ar');
  await localize({home: {title: 'Hello'}}, 'ar', () => Promise.reject(new TypeError('network')));
  assert.equal(page.textContent, 'Hello');
  assert.deepEqual(page.documentElement, {lang: 'en', dir: 'ltr', dataset: {}});
  assert.equal(warn.mock.callCount(), 1);
});

test('the translations are those of language.js', async () => {
  const list = /const translations = (\[.*\]);/.exec(readFileSync(new URL('language.js', publicURL), 'utf8'))?.[1] ?? '';
  const listed = JSON.parse(list.replaceAll("'", '"'));
  const files = readdirSync(publicURL).flatMap(name => /^strings\.(.+)\.js$/.exec(name)?.[1] ?? []);
  assert.deepEqual(files.sort(), listed.sort());
  for (const lang of files) {
    const {strings: translation} = await import(new URL(`strings.${lang}.js`, publicURL).href);
    checkTranslation(lang, translation);
  }
});

test('a translation with a wrong name, kind or slot is found', () => {
  const english = {a: {text: 'Go to {start}.', count: () => '1'}};
  assert.deepEqual(mistakes(english, {a: {text: 'Zu {start}.', count: () => '2'}}), []);
  assert.deepEqual(mistakes(english, {a: {text: 'Zum Start.', count: '2', other: 'x'}}), ['a.text', 'a.count', 'a.other']);
});

/** @param {string} lang @param {Texts} translation */
function checkTranslation(lang, translation) {
  assert.deepEqual(mistakes(strings, translation), [], `strings.${lang}.js`);
}

/**
 * Returns the names of the texts in a translation that are of no use to the pages.
 * @param {Texts} english
 * @param {Texts} translation
 */
function mistakes(english, translation) {
  const wanted = new Map(entries(english));
  const slots = (/** @type {unknown} */ text) => [...String(text).matchAll(/\{\w+\}/g)].map(String).sort().join();
  return entries(translation).filter(([name, text]) => {
    const original = wanted.get(name);
    return typeof text !== typeof original || typeof text === 'string' && slots(text) !== slots(original);
  }).map(([name]) => name);
}

// The script that reloads a page cannot import its texts: the import can have failed.
test('reload-on-error.js has the English texts of strings.js', () => {
  const script = readFileSync(new URL('reload-on-error.js', publicURL), 'utf8');
  for (const text of Object.values(strings.status.notLoaded)) assert.ok(script.includes(`'${text}'`), text);
  assert.ok(script.includes(`\`${strings.status.nextTry({seconds: 0}).replace('0', '${seconds}')}\``));
});

test('every text is used', () => {
  const names = readdirSync(publicURL).filter(name => /\.(js|html)$/.test(name) && !name.startsWith('strings.'));
  const words = new Set(names.flatMap(name => readFileSync(new URL(name, publicURL), 'utf8').match(/[\w-]+/g) ?? []));
  const unused = Object.entries(strings).flatMap(([part, texts]) =>
    Object.keys(texts).filter(key => !words.has(key)).map(key => `${part}.${key}`));
  assert.deepEqual(unused, []);
});
