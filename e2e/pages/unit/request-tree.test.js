/**
 * Tests that a page is at most two requests deep: the HTML file, and everything that it
 * names. On a line with 400 ms, each level more costs as much.
 */

import assert from 'node:assert/strict';
import {existsSync} from 'node:fs';
import {test} from 'node:test';
import {htmlNames, parsePage, publicURL} from '../lib/html.js';
import {importTree, importsOf, pageModules, readPublic, wantedPreloads} from '../lib/preloads.js';

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

  test(`${name} preloads its modules`, () => {
    assert.deepEqual(named(page, 'link', 'href', ['modulepreload']), wantedPreloads(page),
      'run node lib/preloads.js --write in e2e/pages');
  });

  test(`${name} is two requests deep`, () => {
    const first = new Set([...named(page, 'script', 'src'), ...named(page, 'link', 'href', ['stylesheet', 'modulepreload', 'icon', 'manifest'])]);
    for (const file of first) {
      assert.ok(existsSync(new URL(file, publicURL)), `${file} is missing`);
      for (const child of secondLevel(file)) assert.ok(first.has(child), `${file} requests ${child}, which the page does not name`);
    }
  });

  test(`${name} loads its style sheet before its modules`, () => {
    const links = page.querySelectorAll('link').map(link => link.getAttribute('rel'));
    const stylesheet = links.indexOf('stylesheet');
    assert.ok(stylesheet >= 0, 'a style sheet');
    assert.ok(!links.slice(0, stylesheet).includes('modulepreload'), 'modulepreload before the style sheet');
  });
}

/**
 * Returns the files that a file requests as soon as it is loaded.
 * @param {string} name
 */
function secondLevel(name) {
  if (name.endsWith('.js')) return importsOf(name);
  if (!name.endsWith('.css')) return [];
  return [...readPublic(name).matchAll(/url\(["']?(?!data:)([^"')]+)|@import\s+["']([^"']+)/g)].map(([, a, b]) => a ?? b);
}

test('imports are found', () => {
  assert.deepEqual(importsOf('room.js').filter(name => !existsSync(new URL(name, publicURL))), []);
  const modules = htmlNames.flatMap(name => pageModules(parsePage(name))).flatMap(name => [...importTree(name)]);
  for (const name of ['inbox.js', 'peer.js', 'session.js']) assert.ok(modules.includes(name), name);
  assert.ok(importTree('share.js').has('third-party/uqr.js'));
});
