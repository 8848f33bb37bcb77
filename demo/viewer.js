// What the page shows of `compare` in app.py: pictures side by side, one legend for all of them.
const NONE = 65535;
const OPACITY = 0.6;

const make = (tag, options = {}, children = []) => {
  const made = Object.assign(document.createElement(tag), options);
  made.append(...children); // text stays text: a class's name is never read as HTML
  return made;
};

const loaded = (url) =>
  new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = url;
  });

const pixelsOf = async (url, width, height) => {
  const canvas = make('canvas', { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(await loaded(url), 0, 0);
  return context.getImageData(0, 0, width, height).data;
};

const percent = (share) => `${(100 * share).toFixed(1)} %`;
let hidden = new Set(); // classes whose boxes are not ticked; they stay so for the next photo
let turn = 0;

const labelAt = (panel, i) => panel.pixels[4 * i] + 256 * panel.pixels[4 * i + 1];

const paint = (panel, photo, width, height, alone) => {
  const context = panel.canvas.getContext('2d');
  const picture = context.createImageData(width, height);
  const shows = panel.names.map((name) => (alone === null ? !hidden.has(name) : name === alone));
  for (let i = 0; i < width * height; i++) {
    const label = labelAt(panel, i);
    const shown = label !== NONE && shows[label];
    const right = (i + 1) % width ? labelAt(panel, i + 1) : label;
    const below = i + width < width * height ? labelAt(panel, i + width) : label;
    const edge = (right !== label || below !== label) && (shown || shows[right] || shows[below]);
    for (let c = 0; c < 3; c++) {
      const own = photo[4 * i + c];
      const tint = shown ? (1 - OPACITY) * own + OPACITY * panel.palette[label][c] : own;
      picture.data[4 * i + c] = edge ? 255 : tint;
    }
    picture.data[4 * i + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
};

const read = (panels, width, height, event) => {
  const box = event.currentTarget.getBoundingClientRect();
  const x = Math.floor(((event.clientX - box.left) / box.width) * width);
  const y = Math.floor(((event.clientY - box.top) / box.height) * height);
  if (x < 0 || y < 0 || x >= width || y >= height) return;
  for (const panel of panels) {
    const label = labelAt(panel, y * width + x);
    const sure = panel.pixels[4 * (y * width + x) + 2] / 255;
    const name = label === NONE ? 'none of these' : panel.names[label];
    panel.reading.textContent = `${name} · ${sure.toFixed(2)}`;
    Object.assign(panel.spot.style, {
      display: 'block',
      left: `${(100 * (x + 0.5)) / width}%`,
      top: `${(100 * (y + 0.5)) / height}%`,
    });
  }
};

const forget = (panels) => {
  for (const panel of panels) {
    panel.reading.textContent = 'point at the picture';
    panel.spot.style.display = 'none';
  }
};

const figureOf = (panel, width, height) => {
  panel.canvas = make('canvas', { width, height });
  panel.spot = make('div', { className: 'spot' });
  panel.reading = make('div', { className: 'reading', textContent: 'point at the picture' });
  const file = `${panel.title.replace(/[^a-z]+/gi, ' ').trim().replace(/ /g, '_')}_labels.png`;
  const link = make('a', { href: panel.labels, download: file, textContent: 'label PNG' });
  const stage = make('div', { className: 'stage' }, [panel.canvas, panel.spot]);
  const title = make('figcaption', { textContent: panel.title });
  const figure = make('figure', {}, [title, stage, panel.reading, link]);
  figure.style.maxWidth = `calc(70vh * ${width / height})`; // a tall photo fits the screen
  return figure;
};

// Classes that any picture has, largest first; those that none has come last, paler.
const legendOf = (panels, repaint) => {
  const colours = new Map();
  for (const panel of panels) panel.names.forEach((n, i) => colours.set(n, panel.palette[i]));
  const shareOf = (panel, name) => (panel.summary[name] ? panel.summary[name].share : 0);
  const most = (name) => Math.max(...panels.map((panel) => shareOf(panel, name)));
  const rows = [...colours.keys()].sort((a, b) => most(b) - most(a)).map((name) => {
    const tick = make('input', { type: 'checkbox', checked: !hidden.has(name) });
    tick.onchange = () => {
      tick.checked ? hidden.delete(name) : hidden.add(name);
      repaint(null);
    };
    const swatch = make('span', { className: 'swatch' });
    swatch.style.background = `rgb(${colours.get(name)})`;
    const label = make('label', {}, [tick, swatch, make('span', { textContent: name })]);
    const cells = panels.map((panel) => {
      const knows = panel.names.includes(name);
      return make('td', { textContent: knows ? percent(shareOf(panel, name)) : '–' });
    });
    const row = make('tr', { className: most(name) ? '' : 'absent' });
    row.append(make('td', {}, [label]), ...cells);
    if (most(name)) {
      row.onmouseenter = () => repaint(name);
      row.onmouseleave = () => repaint(null);
    }
    return row;
  });
  const heads = ['class', ...panels.map((panel) => panel.title)];
  const head = make('tr', {}, heads.map((text) => make('th', { textContent: text })));
  return make('table', { className: 'legend' }, [head, ...rows]);
};

// On a phone the pictures lie below the words.
const intoView = (viewer) => {
  if (viewer.getBoundingClientRect().top > 0.7 * window.innerHeight) viewer.scrollIntoView();
};

const show = async (viewer, answer) => {
  const mine = ++turn;
  if (!answer || answer.problem) {
    const problem = () => make('p', { className: 'problem', role: 'alert', textContent: answer.problem });
    viewer.replaceChildren(answer ? problem() : 'The label maps appear here.');
    intoView(viewer);
    return;
  }
  const { width, height, panels } = answer;
  const photo = await pixelsOf(answer.photo, width, height);
  for (const panel of panels) panel.pixels = await pixelsOf(panel.map, width, height);
  if (mine !== turn) return; // a newer answer came meanwhile
  const figures = panels.map((panel) => figureOf(panel, width, height));
  const repaint = (alone) => {
    for (const panel of panels) paint(panel, photo, width, height, alone);
  };
  for (const panel of panels) {
    panel.canvas.onpointermove = (event) => read(panels, width, height, event);
    panel.canvas.onpointerleave = () => forget(panels);
  }
  const names = panels.flatMap((panel) => panel.names);
  const switchAll = (text, on) => {
    const button = make('button', { type: 'button', textContent: text });
    button.onclick = () => {
      hidden = new Set(on ? [] : names);
      legend.querySelectorAll('input').forEach((tick) => (tick.checked = on));
      repaint(null);
    };
    return button;
  };
  const legend = legendOf(panels, repaint);
  const bar = make('div', { className: 'bar' }, [switchAll('show all', true), switchAll('none', false)]);
  viewer.replaceChildren(make('div', { className: 'panels' }, figures), bar, legend);
  repaint(null);
  intoView(viewer);
};

watch('value', () => show(element.querySelector('.viewer'), JSON.parse(props.value)));
