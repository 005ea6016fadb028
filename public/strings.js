/**
 * All texts of the pages, by part. A value is a string, or a function of named
 * parameters. Elements of the HTML files name their text in data-text, data-label
 * (for aria-label) or data-placeholder.
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
};
