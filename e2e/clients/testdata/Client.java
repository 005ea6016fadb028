import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.URL;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Java's HttpClient, or the older HttpURLConnection if the last argument is "url". */
class Client {
    record Answer(int status, String id, String body) {}

    static final byte[] LARGE = new byte[8 << 20];
    static final Pattern PROBLEM = Pattern.compile("urn:inbox:problem:[a-z-]+");

    static String url, name;
    static boolean old;
    static final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] args) throws Exception {
        url = args[0];
        name = args[1];
        old = args.length > 3 && args[3].equals("url");
        line("claim", "GET", "/inbox?wait=0", "rabbit", null);
        line("wait", "GET", "/inbox?wait=1", "rabbit", null);
        line("send", "POST", "/inbox?to=" + name, "rabbit", "hello".getBytes());
        String id = line("receive", "GET", "/inbox?after=", "rabbit", null).id();
        line("acknowledge", "GET", "/inbox?after=" + id + "&wait=0", "rabbit", null);
        line("large", "POST", "/inbox?to=" + name, "rabbit", LARGE);
        line("wrong", "GET", "/inbox?wait=0", "wrong", null);
        line("large-wrong", "POST", "/inbox?to=" + name, "wrong", LARGE);
        line("delete", "DELETE", "/inbox", "rabbit", null);
    }

    static Answer line(String step, String method, String target, String password, byte[] body) throws Exception {
        String basic = "Basic " + Base64.getEncoder().encodeToString((name + ":" + password).getBytes("UTF-8"));
        Answer a = old ? sendOld(method, target, basic, body) : send(method, target, basic, body);
        Matcher m = PROBLEM.matcher(a.body());
        System.out.println(step + " " + a.status() + " " + (m.find() ? m.group() : a.body()));
        return a;
    }

    static Answer send(String method, String target, String basic, byte[] body) throws Exception {
        HttpRequest.BodyPublisher publisher = body == null
            ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofByteArray(body);
        HttpRequest request = HttpRequest.newBuilder(URI.create(url + target))
            .header("Authorization", basic).method(method, publisher).build();
        HttpResponse<String> response = client.send(request, HttpResponse.BodyHandlers.ofString());
        return new Answer(response.statusCode(), response.headers().firstValue("X-Message-Id").orElse(""), response.body());
    }

    static Answer sendOld(String method, String target, String basic, byte[] body) throws Exception {
        HttpURLConnection c = (HttpURLConnection) new URL(url + target).openConnection();
        c.setRequestMethod(method);
        c.setRequestProperty("Authorization", basic);
        if (body != null) {
            c.setDoOutput(true);
            c.getOutputStream().write(body);
        }
        int status = c.getResponseCode();
        InputStream in = status < 400 ? c.getInputStream() : c.getErrorStream();
        String text = in == null ? "" : new String(in.readAllBytes(), "UTF-8");
        return new Answer(status, c.getHeaderField("X-Message-Id"), text);
    }
}
