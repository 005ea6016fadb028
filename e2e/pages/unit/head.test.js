/** Tests what the heads of all pages have in common. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {htmlNames, parsePage, readPublic} from '../lib/html.js';

/** The value of a custom property in a colour scheme. @param {string} name @param {'light' | 'dark'} scheme */
function property(name, scheme) {
  const [light, dark] = readPublic('style.css').split('@media (prefers-color-scheme: dark)');
  return new RegExp(`--${name}: (#\\w+);`).exec(scheme === 'light' ? light : dark)?.[1];
}

for (const name of htmlNames) {
  const page = parsePage(name);
  const links = (/** @type {string} */ rel) => page.querySelectorAll('link')
    .filter(link => link.getAttribute('rel') === rel).map(link => link.getAttribute('href')?.replace(/^\//, ''));

  test(`${name} can be installed`, () => {
    assert.deepEqual(links('manifest'), ['inbox.webmanifest']);
    assert.deepEqual(links('icon'), ['favicon.svg']);
    assert.deepEqual(links('apple-touch-icon'), ['apple-touch-icon.png']);
  });

  test(`${name} colours the browser like the page`, () => {
    const colours = page.querySelectorAll('meta').filter(meta => meta.getAttribute('name') === 'theme-color')
      .map(meta => [meta.getAttribute('media'), meta.getAttribute('content')]);
    assert.deepEqual(colours, [
      ['(prefers-color-scheme: light)', property('paper', 'light')],
      ['(prefers-color-scheme: dark)', property('paper', 'dark')],
    ]);
  });

  test(`${name} chooses the language before it is painted`, () => {
    const head = page.querySelector('head')?.elements ?? [];
    const at = head.findIndex(element => element.getAttribute('src')?.endsWith('early.js'));
    const stylesheet = head.findIndex(element => element.getAttribute('rel') === 'stylesheet');
    assert.ok(at >= 0 && at < stylesheet, 'early.js before the style sheet');
    assert.equal(head[at].getAttribute('type'), null, 'a plain script');
  });
}
