/**
 * Tests that a page is at most two requests deep: the HTML file, and everything that it
 * names. On a line with 400 ms, each level more costs as much.
 */

import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import {test} from 'node:test';
import {htmlNames, parsePage, publicURL, readPublic} from '../lib/html.js';

/**
 * Returns the files that an HTML file names, as names in public/.
 * @param {import('../lib/html.js').Element} page
 * @param {string} element
 * @param {string} attribute
 * @param {string[]} [rels]
 */
function named(page, element, attribute, rels) {
  return page.querySelectorAll(element)
    .filter(found => !rels || rels.includes(found.getAttribute('rel') ?? ''))
    .map(found => found.getAttribute(attribute)?.replace(/^\//, '') ?? '')
    .filter(name => name);
}

for (const name of htmlNames) {
  const page = parsePage(name);

  test(`${name} loads its code as at most two files`, () => {
    const files = [...named(page, 'script', 'src'), ...named(page, 'link', 'href', ['modulepreload'])].filter(file => !file.endsWith('early.js'));
    const base = name.replace('.html', '');
    const chunk = existsSync(new URL(`bundles/${base}-chunk.js`, publicURL)) ? [`bundles/${base}-chunk.js`] : [];
    assert.deepEqual(files, [`bundles/${base}.js`, ...chunk]);
  });

  test(`${name} is two requests deep`, () => {
    const first = new Set([...named(page, 'script', 'src'), ...named(page, 'link', 'href', ['stylesheet', 'icon', 'manifest', 'modulepreload'])]);
    for (const file of first) {
      assert.ok(existsSync(new URL(file, publicURL)), `${file} is missing`);
      for (const child of secondLevel(file)) assert.ok(first.has(child), `${file} requests ${child}, which the page does not name`);
    }
  });
}

/**
 * Returns the files that a bundle requests as soon as it is loaded.
 * @param {string} name
 */
function secondLevel(name) {
  if (name.endsWith('.js')) return [...readPublic(name).matchAll(/\b(?:import|from)\s*["']\.\/(.*?)["']/g)].map(([, path]) => `bundles/${path}`);
  if (!name.endsWith('.css')) return [];
  return [...readPublic(name).matchAll(/url\(["']?(?!data:)([^"')]+)|@import\s+["']([^"']+)/g)].map(([, a, b]) => a ?? b);
}
