'use strict';
// herdQuestions is the part of the page that asks: the map, one client, the trial of a command, and
// whether all edges hold the same. It asks its own server alone, and nothing that it asks changes
// anything. It returns {herdSeen(herd)}, which page.js calls with every new state.
const herdQuestions = ({ $, el, write, rows, printable, idText, count, clock, seconds, plural }) => {
	const short = (text, n) => text.length > n ? text.slice(0, n - 1) + '…' : text;
	let map = null, mapOn = false, mapSeen = false, timer = 0, asking = null, shown = null;

	const ask = async (path, signal = AbortSignal.timeout(30000)) => {
		const answer = await fetch(path, { signal, headers: { 'Herd-Page': '1' } }); // another site's page may not send that
		if (!answer.ok) throw new Error((await answer.text()).trim() || 'status ' + answer.status);
		return answer.json();
	};

	// The map.
	const follow = () => {
		clearTimeout(timer);
		asking?.abort();
		asking = null;
		if (!mapOn || !mapSeen || document.hidden) return;
		refresh();
	};
	const refresh = async () => {
		const own = asking = new AbortController(), b = map.box();
		const limit = setTimeout(() => own.abort(), 10000);
		let wait = 2000;
		try {
			const box = [b.south, b.west, b.north, b.east].map((x) => x.toFixed(5)).join(',');
			const answer = await ask('map.json?box=' + box, own.signal);
			// A cell comes as its row and column in cells of one size, a client's time as seconds since 1970.
			answer.clients = (answer.singles ?? []).map((k) => ({ id: k.client, lat: k.lat, lon: k.lon, time: k.time, edge: k.edge, label: short(printable(k.client), 28) }));
			answer.cells = answer.clients.length ? [] : (answer.cells ?? []).map(([row, column, n]) => [row * answer.size - 90, column * answer.size - 180, answer.size, n]);
			if (answer.clients.length) wait = 1000;
			shown = answer;
			map.show(answer);
			drawMapTable();
			write($('map-note'), '');
		} catch (e) {
			if (asking !== own) return; // another view is being asked for
			write($('map-note'), own.signal.aborted ? 'The map is not answered.' : 'The map: ' + e.message);
		} finally {
			clearTimeout(limit);
		}
		if (asking === own) timer = setTimeout(refresh, wait);
	};
	const degrees = (v, plus, minus) => +Math.abs(v).toFixed(4) + '°' + (v < 0 ? minus : plus);
	const cellName = ([south, west, size]) => `${degrees(south, 'N', 'S')} ${degrees(west, 'E', 'W')}, ${size}°`;
	// drawMapTable says what the canvas shows, for those who cannot see it.
	const drawMapTable = () => {
		const { cells, clients } = shown;
		const sum = cells.reduce((n, c) => n + c[3], 0) + clients.length;
		write($('map-sum'), clients.length ? plural(clients.length, 'client', 'clients') + ' in view' : plural(sum, 'client', 'clients') + ' in view, in ' + plural(cells.length, 'cell', 'cells'));
		document.body.dataset.frames = JSON.stringify(map.frames);
		if (!$('map-details').open) return;
		$('map-clients-table').hidden = !clients.length;
		$('map-cells-table').hidden = clients.length > 0;
		rows($('map-clients'), clients.slice(0, 200), (k) => k.id, (k) => ({
			cells: [{ id: k.id, act: () => search(k.id) }, { text: k.lat.toFixed(5), class: 'number' }, { text: k.lon.toFixed(5), class: 'number' }, clock(new Date(k.time * 1000).toString() === 'Invalid Date' ? '' : k.time * 1000), k.edge ?? '–'],
		}));
		const top = clients.length ? [] : [...cells].sort((a, b) => b[3] - a[3]).slice(0, 100);
		rows($('map-cells'), top, (c) => c.slice(0, 3).join(), (c) => ({
			cells: [{ text: cellName(c), act: () => map.go(c[0] + c[2] / 2, c[1] + c[2] / 2, c[2] * 3) }, { text: count(c[3]), class: 'number' }],
		}));
	};
	const openMap = () => {
		map = worldMap($('map'), {
			outline: $('outline').getAttribute('d'),
			label: 'Map of the clients. Arrows move it, plus and minus zoom, 0 shows the world, n and p go from client to client, Enter looks one up. The table below says what it shows.',
			viewed: () => follow(),
			picked: (k) => search(k.id),
			pointed: (text) => write($('map-pointed'), text),
		});
		$('map-in').addEventListener('click', () => map.zoom(1.8));
		$('map-out').addEventListener('click', () => map.zoom(1 / 1.8));
		$('map-world').addEventListener('click', () => map.world());
		$('map-details').addEventListener('toggle', () => shown && drawMapTable());
		new IntersectionObserver(([e]) => {
			mapSeen = e.isIntersecting;
			follow();
		}).observe($('map'));
		document.addEventListener('visibilitychange', follow);
	};

	// One client.
	let searched = 0;
	const search = async (id) => {
		const own = ++searched;
		$('client-id').value = id;
		map?.mark(id);
		write($('client-answer'), 'Asking all edges …');
		$('client-table').hidden = true;
		let answer;
		try {
			answer = await ask('client.json?id=' + encodeURIComponent(id));
		} catch (e) {
			if (own === searched) write($('client-answer'), 'No answer: ' + e.message);
			return;
		}
		if (own !== searched) return;
		showClient(id, answer);
	};
	// whoHolds says in a sentence whether the edges hold the same.
	const whoHolds = (edges, newest) => {
		const silent = edges.filter((e) => e.error).length, asked = edges.length - silent;
		const known = edges.filter((e) => e.known), same = known.filter((e) => e.line === newest?.line).length;
		const rest = silent ? `; ${plural(silent, 'edge does', 'edges do')} not answer` : '';
		if (!known.length) return (asked ? 'no edge knows this client' : 'nobody answers') + (asked ? rest : '');
		if (same === asked) return (asked === 1 ? 'one edge holds its line' : `all ${asked} edges hold the same line`) + rest;
		return `${same} of ${asked} edges hold the newest line, ${plural(known.length - same, 'holds', 'hold')} another, ${plural(asked - known.length, 'does', 'do')} not know it${rest}`;
	};
	const holds = (e, newest) => e.error ? { text: e.error, pill: 'silent' } : !e.known ? { text: 'unknown here', pill: 'warning' } :
		e.line === newest.line ? { text: 'the newest', pill: 'ok' } : { text: e.effective < newest.effective ? 'older' : 'another', pill: 'warning' };
	const source = (e) => ({ client: 'the client', journal: 'its journal', neighbour: e.neighbour })[e.from] ?? '–';
	const told = (e) => (e.links ?? []).map((l) => `${l.neighbour} ${l.acknowledged ? '✓' : l.up ? `(lag ${count(l.lag)})` : '(down)'}`).join(', ') || '–';
	const showClient = (id, answer) => {
		const edges = (answer.edges ?? []).map((e) => ({ ...e.client, edge: e.edge, error: e.client ? '' : e.state === 'ready' ? 'no answer' : e.state, why: e.why })), known = edges.filter((e) => e.known);
		const newest = known.reduce((a, b) => !a || (b.effective ?? '') > (a.effective ?? '') ? b : a, null);
		$('client-answer').replaceChildren(idText(id), ': ' + (answer.sentence ?? whoHolds(edges, newest)));
		$('client-table').hidden = !edges.length;
		rows($('client-rows'), edges, (e) => e.edge, (e) => ({
			cells: [
				e.edge, { ...holds(e, newest), sub: e.why }, { text: printable(e.line ?? '–'), class: 'code' }, source(e), e.received ? clock(e.received) : '–',
				e.own ? (e.in_journal ? 'written' : 'not written') : '–', told(e),
			],
		}));
		const place = newest && Number.isFinite(newest.lat) && map;
		$('client-go').hidden = !place;
		if (place) $('client-go').onclick = () => {
			map.go(newest.lat, newest.lon, 0.2);
			$('map').scrollIntoView({ block: 'center' });
		};
	};
	$('client-form').addEventListener('submit', (e) => {
		e.preventDefault();
		if ($('client-id').value) search($('client-id').value);
	});

	// The trial of a command.
	$('try-form').addEventListener('submit', async (e) => {
		e.preventDefault();
		const line = [$('try-command').value, $('try-client').value, $('try-radius').value, $('try-max').value].join(' ');
		const out = $('try-answer');
		write(out, 'Asking …');
		out.hidden = false;
		try {
			const begun = performance.now();
			const a = await ask('try.json?edge=' + encodeURIComponent($('try-edge').value) + '&line=' + encodeURIComponent(line));
			const took = seconds((performance.now() - begun) / 1000);
			write(out, printable2(a.answer ?? a.refused ?? a.error ?? '') + `\n(${a.edge}, ${took})`);
		} catch (err) {
			write(out, 'No answer: ' + err.message);
		}
	});
	const printable2 = (text) => text.split('\n').map(printable).join('\n');

	// Are all edges the same?
	$('verify').addEventListener('click', async () => {
		const out = $('verify-answer');
		$('verify').disabled = true;
		out.className = '';
		write(out, 'Asking all edges …');
		try {
			const a = await ask('verify.json', AbortSignal.timeout(120000));
			out.className = a.level ?? '';
			write(out, (a.level === 'ok' ? '✓ ' : '✕ ') + a.sentence);
			$('verify-table').hidden = !a.differences?.length;
			rows($('verify-rows'), (a.differences ?? []).slice(0, 100), (d) => d.id + ' ' + d.edge, (d) => ({
				cells: [{ id: d.id, act: () => search(d.id) }, d.edge, d.text ?? ''],
			}));
		} catch (err) {
			write(out, 'No answer: ' + err.message);
		}
		$('verify').disabled = false;
	});

	return {
		herdSeen({ server, edges }) {
			const names = edges.filter((e) => e.status).map((e) => e.name), select = $('try-edge');
			if (select.names !== names.join()) {
				const was = select.value;
				select.names = names.join();
				select.replaceChildren(...names.map((n) => new Option(n)));
				if (names.includes(was)) select.value = was;
			}
			if (mapOn === server.map.on && (mapOn || map === false)) return;
			mapOn = server.map.on;
			$('positions').hidden = !mapOn;
			$('positions-off').hidden = mapOn;
			write($('positions-why'), server.map.why ?? '');
			if (mapOn && !map) openMap();
			else map ??= false;
		},
	};
};
