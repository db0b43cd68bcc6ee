"""Thirty functions in three languages, and what people ask for who do not know their names."""

from __future__ import annotations

from typing import Final

from pipeline.embedders import Passage

SOURCE: Final = r"""
### RetryPolicy.run
def run(self, operation):
    for attempt in range(self.max_attempts):
        try:
            return operation()
        except TransientError:
            time.sleep(self.base_delay * 2 ** attempt)
    raise GaveUp(self.max_attempts)
### hash_password
def hash_password(password: str, salt: bytes) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 600_000)
### delete_expired_sessions
def delete_expired_sessions(db, now):
    with db.cursor() as cursor:
        cursor.execute("DELETE FROM sessions WHERE expires_at < %s", (now,))
        return cursor.rowcount
### parse_iso_duration
def parse_iso_duration(text: str) -> timedelta:
    match = DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration: {text}")
    return timedelta(days=int(match["days"] or 0), hours=int(match["hours"] or 0))
### Inventory.reserve
def reserve(self, sku: str, quantity: int) -> Reservation:
    if self.stock[sku] < quantity:
        raise OutOfStock(sku)
    self.stock[sku] -= quantity
    return Reservation(sku, quantity)
### render_invoice_pdf
def render_invoice_pdf(invoice, template_path):
    html = Template(template_path.read_text()).render(invoice=invoice)
    return HTML(string=html).write_pdf()
### levenshtein
def levenshtein(left: str, right: str) -> int:
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
    return row[-1]
### load_settings
def load_settings(path: Path) -> Settings:
    with path.open("rb") as stream:
        values = tomllib.load(stream)
    return Settings(**values)
### resize_thumbnail
def resize_thumbnail(image, max_width=256):
    ratio = max_width / image.width
    return image.resize((max_width, round(image.height * ratio)))
### TokenBucket.allow
def allow(self, now: float) -> bool:
    self.tokens = min(self.capacity, self.tokens + (now - self.updated) * self.rate)
    self.updated = now
    if self.tokens < 1:
        return False
    self.tokens -= 1
    return True
### debounce
function debounce(callback, wait) {
  let timer = null;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => callback(...args), wait);
  };
}
### fetchUserProfile
async function fetchUserProfile(userId) {
  const response = await fetch(`/api/users/${userId}`);
  if (!response.ok) throw new HttpError(response.status);
  return response.json();
}
### validateEmail
function validateEmail(address) {
  return /^[^@\s]+@[^@\s]+\.[^@\s]+$/.test(address);
}
### groupBy
export function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(item);
  }
  return groups;
}
### ShoppingCart.total
  total() {
    return this.lines.reduce((sum, line) => sum + line.price * line.quantity, 0);
  }
### setCookie
function setCookie(name, value, days) {
  const expires = new Date(Date.now() + days * 864e5).toUTCString();
  document.cookie = `${name}=${encodeURIComponent(value)}; expires=${expires}; path=/`;
}
### deepClone
function deepClone(value) {
  if (Array.isArray(value)) return value.map(deepClone);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, deepClone(v)]));
  }
  return value;
}
### scrollToBottom
function scrollToBottom(element) {
  element.scrollTo({ top: element.scrollHeight, behavior: "smooth" });
}
### uploadAvatar
async function uploadAvatar(file, onProgress) {
  const body = new FormData();
  body.append("avatar", file);
  await axios.post("/api/avatar", body, { onUploadProgress: onProgress });
}
### formatCurrency
const formatCurrency = (amount, currency = "EUR") =>
  new Intl.NumberFormat(undefined, { style: "currency", currency }).format(amount);
### Server.Shutdown
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.active {
		conn.Close()
	}
	return s.listener.Close()
}
### LRU.evictOldest
func (c *LRU) evictOldest() {
	entry := c.order.Back()
	if entry != nil {
		c.order.Remove(entry)
		delete(c.items, entry.Value.(*item).key)
	}
}
### ReadLines
func ReadLines(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var lines []string
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	return lines, scanner.Err()
}
### Worker.Heartbeat
func (w *Worker) Heartbeat(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			w.registry.Touch(w.ID, time.Now())
		}
	}
}
### ParseHeader
func ParseHeader(line string) (key, value string, err error) {
	i := strings.IndexByte(line, ':')
	if i < 0 {
		return "", "", ErrMalformed
	}
	return textproto.TrimString(line[:i]), textproto.TrimString(line[i+1:]), nil
}
### BinarySearch
func BinarySearch(sorted []int, wanted int) int {
	low, high := 0, len(sorted)
	for low < high {
		middle := (low + high) / 2
		if sorted[middle] < wanted {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low
}
### GzipHandler
func GzipHandler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gz := gzip.NewWriter(w)
		defer gz.Close()
		w.Header().Set("Content-Encoding", "gzip")
		next.ServeHTTP(&gzipWriter{w, gz}, r)
	})
}
### VerifySignature
func VerifySignature(payload, signature, secret []byte) bool {
	mac := hmac.New(sha256.New, secret)
	mac.Write(payload)
	return hmac.Equal(mac.Sum(nil), signature)
}
### Graph.TopologicalOrder
func (g *Graph) TopologicalOrder() ([]Node, error) {
	var order []Node
	for len(g.ready) > 0 {
		node := g.pop()
		order = append(order, node)
		g.release(node)
	}
	if len(order) != g.size {
		return nil, ErrCycle
	}
	return order, nil
}
### SendEmail
func (m *Mailer) SendEmail(to, subject, body string) error {
	message := fmt.Sprintf("To: %s\r\nSubject: %s\r\n\r\n%s", to, subject, body)
	return smtp.SendMail(m.addr, m.auth, m.from, []string{to}, []byte(message))
}
"""
FUNCTIONS: Final = tuple(
    Passage(*part.split("\n", 1)) for part in SOURCE.strip("\n").removeprefix("### ").split("\n### ")
)
QUERIES: Final = (
    ("try again with exponential back-off after a temporary failure", "RetryPolicy.run"),
    ("store passwords safely with a salted hash", "hash_password"),
    ("remove old login sessions from the database", "delete_expired_sessions"),
    ("convert a duration string into days and hours", "parse_iso_duration"),
    ("edit distance between two strings", "levenshtein"),
    ("read the configuration file", "load_settings"),
    ("shrink a picture", "resize_thumbnail"),
    ("limit the rate of requests", "TokenBucket.allow"),
    ("delay calling a handler until typing stops", "debounce"),
    ("load a user's account from the server", "fetchUserProfile"),
    ("check that an email address is well formed", "validateEmail"),
    ("copy a nested object", "deepClone"),
    ("sum of the prices in the basket", "ShoppingCart.total"),
    ("gracefully stop the server and close its connections", "Server.Shutdown"),
    ("drop the least recently used cache entry", "LRU.evictOldest"),
    ("tell the registry periodically that the worker is alive", "Worker.Heartbeat"),
    ("compress http responses", "GzipHandler"),
    ("authenticate a webhook by its hmac", "VerifySignature"),
    ("order dependencies and detect cycles", "Graph.TopologicalOrder"),
    ("deliver mail over smtp", "SendEmail"),
)
