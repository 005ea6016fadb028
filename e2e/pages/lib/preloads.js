/**
 * Computes which modules a page loads, and writes them into its HTML file as
 * modulepreload links. A browser then requests all files of a page as soon as it has the
 * HTML, and not one level of imports after the other.
 *
 *   node lib/preloads.js --write
 */

import {readFileSync, writeFileSync} from 'node:fs';
import {posix} from 'node:path';
import {pathToFileURL} from 'node:url';
import {htmlNames, parsePage, publicURL} from './html.js';

/** @param {string} name a file of public/ */
export const readPublic = name => readFileSync(new URL(name, publicURL), 'utf8');

/**
 * Returns the modules that a module imports statically.
 * @param {string} name
 */
export function importsOf(name) {
  const code = readPublic(name).replace(/\/\*.*?\*\//gs, ''); // JSDoc types contain imports
  const statement = /^(?:import\s+(?:[\w*{}\s,$]+\s+from\s+)?|export\s+(?:\*|\{[^}]*\})\s+from\s+)['"](\.[^'"]+)['"]/gm;
  return [...code.matchAll(statement)]
    .map(([, path]) => posix.join(posix.dirname(name), path));
}

/**
 * Returns a module and all modules below it, those that are needed first at the end.
 * @param {string} name
 * @param {Set<string>} [seen]
 */
export function importTree(name, seen = new Set()) {
  if (seen.has(name)) return seen;
  seen.add(name);
  for (const other of importsOf(name)) importTree(other, seen);
  return seen;
}

/**
 * Returns the modules that a page runs, by their names in public/.
 * @param {import('./html.js').Element} page
 */
export function pageModules(page) {
  return page.querySelectorAll('script')
    .filter(script => script.getAttribute('type') === 'module')
    .map(script => (script.getAttribute('src') ?? '').replace(/^\//, ''));
}

/**
 * Returns the modules that a page must preload: all except those of its script elements.
 * @param {import('./html.js').Element} page
 */
export function wantedPreloads(page) {
  const own = pageModules(page);
  const all = new Set(own.flatMap(name => [...importTree(name)]));
  return [...all].filter(name => !own.includes(name)).sort();
}

/** Writes the links of all pages. */
function write() {
  for (const name of htmlNames) {
    const html = readPublic(name);
    const prefix = html.includes('href="/style.css"') ? '/' : ''; // the page is shown at any path
    const links = wantedPreloads(parsePage(name)).map(module => `  <link rel="modulepreload" href="${prefix}${module}">\n`);
    const without = html.replace(/ *<link rel="modulepreload"[^>]*>\n/g, '');
    const written = without.replace(/ *<script type="module"[^>]*><\/script>\n(?!.*<script type="module")/s, script => script + links.join(''));
    if (written !== html) writeFileSync(new URL(name, publicURL), written);
  }
}

if (process.argv.includes('--write') && import.meta.url === pathToFileURL(process.argv[1]).href) write();
