/** Small charts as SVG. They have no text and no colours: the style sheet sets these. */

const namespace = 'http://www.w3.org/2000/svg';
const width = 300;
const height = 64;

/**
 * Creates an SVG element.
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {Element[]} children
 */
function svg(name, attributes, ...children) {
  const element = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  element.append(...children);
  return element;
}

/**
 * Returns the points of a line as "x y" pairs. The oldest value is at the left; a chart that is
 * not full yet begins further to the right.
 * @param {number[]} values oldest first
 * @param {number} capacity the number of values of a full chart
 * @param {number} top the value at the upper edge
 */
export function points(values, capacity, top) {
  const step = width / Math.max(1, capacity - 1);
  const first = width - step * (values.length - 1);
  return values.map((value, i) => {
    const y = height - 1 - (height - 4) * (top > 0 ? Math.min(1, value / top) : 0);
    return `${(first + i * step).toFixed(1)} ${y.toFixed(1)}`;
  });
}

/**
 * Returns the paths of a line and of the area below it. They are empty with less than two values.
 * @param {number[]} values
 * @param {number} capacity
 * @param {number} top
 */
export function paths(values, capacity, top) {
  if (values.length < 2) return {line: '', area: ''};
  const all = points(values, capacity, top);
  const x = all[0].split(' ')[0];
  const line = `M${all.join('L')}`;
  return {line, area: `${line}L${width} ${height}L${x} ${height}Z`};
}

/** Chart is a line over the last minutes, with the area below it. */
export class Chart {
  #line = svg('path', {class: 'chart-line', 'vector-effect': 'non-scaling-stroke'});
  #area = svg('path', {class: 'chart-area'});
  #capacity;

  /** @param {number} capacity the number of values of a full chart */
  constructor(capacity) {
    this.#capacity = capacity;
    const base = svg('path', {class: 'chart-base', d: `M0 ${height - 0.5}H${width}`, 'vector-effect': 'non-scaling-stroke'});
    this.element = svg('svg', {class: 'chart', viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', role: 'img'}, this.#area, base, this.#line);
  }

  /**
   * Draws values, with the highest one at the top.
   * @param {number[]} values oldest first
   * @param {string} label a sentence for those who do not see the chart
   * @param {number} [least] the lowest value at the top, so that noise looks small
   */
  update(values, label, least = 0) {
    const {line, area} = paths(values, this.#capacity, Math.max(least, ...values));
    this.#line.setAttribute('d', line);
    this.#area.setAttribute('d', area);
    this.element.setAttribute('aria-label', label);
  }
}

/**
 * Returns a bar of a share, with an optional mark.
 * @param {number} share from 0 to 1
 * @param {string} tone good, busy or bad
 * @param {number} [mark] from 0 to 1
 */
export function bar(share, tone, mark) {
  const x = Math.max(0, Math.min(1, share)) * width;
  const element = svg('svg', {class: 'meter', viewBox: `0 0 ${width} 8`, preserveAspectRatio: 'none', 'aria-hidden': 'true', 'data-tone': tone},
    svg('rect', {class: 'meter-track', width, height: 8}), svg('rect', {class: 'meter-fill', width: x.toFixed(1), height: 8}));
  if (mark !== undefined) {
    element.append(svg('path', {class: 'meter-mark', d: `M${(Math.max(0, Math.min(1, mark)) * width).toFixed(1)} 0V8`, 'vector-effect': 'non-scaling-stroke'}));
  }
  return element;
}
