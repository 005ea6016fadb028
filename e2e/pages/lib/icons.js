/**
 * Renders the icons of the installed page from public/favicon.svg with Chromium:
 *
 *   node lib/icons.js
 *
 * Systems cut maskable icons to a shape of their own, at most to a circle of 80 % of the
 * width. These icons therefore fill the whole square, with a smaller picture.
 */

import {readFileSync} from 'node:fs';
import {fileURLToPath} from 'node:url';
import {launch} from './browser.js';
import {publicURL} from './html.js';

const icons = [
  {name: 'icon-192.png', size: 192, maskable: false},
  {name: 'icon-512.png', size: 512, maskable: false},
  {name: 'icon-maskable-512.png', size: 512, maskable: true},
  {name: 'apple-touch-icon.png', size: 180, maskable: true}, // iOS rounds the corners
];

const svg = readFileSync(new URL('favicon.svg', publicURL), 'utf8');
const background = /<rect[^>]*fill="(#\w+)"/.exec(svg)?.[1] ?? '';

const browser = await launch();
const page = await browser.newPage();
for (const {name, size, maskable} of icons) {
  await page.setViewportSize({width: size, height: size});
  const scale = maskable ? 0.82 : 1;
  await page.setContent(`<body style="margin:0;height:100vh;display:grid;place-items:center;${maskable ? `background:${background}` : ''}">
    <div style="width:${size * scale}px;height:${size * scale}px">${svg}</div></body>`);
  await page.screenshot({path: fileURLToPath(new URL(name, publicURL)), omitBackground: !maskable});
}
await browser.close();
