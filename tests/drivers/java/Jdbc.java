import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/** JDBC in its query modes, each on a connection that stays: prepared statements, batches, generated keys, autosave. */
public class Jdbc {
    /** What makes the connections differ. */
    static final String[] MODES = {
        "preferQueryMode=simple",
        "preferQueryMode=extended&prepareThreshold=1",
        "preferQueryMode=extended&prepareThreshold=0",
        "preferQueryMode=extendedForPrepared&prepareThreshold=3",
        "preferQueryMode=extendedCacheEverything&prepareThreshold=2",
        "autosave=always&prepareThreshold=1",
        "autosave=conservative&reWriteBatchedInserts=true",
        "binaryTransfer=true&prepareThreshold=-1&defaultRowFetchSize=2",
    };

    public static void main(String[] arguments) throws Exception {
        String url = "jdbc:" + arguments[0].replace("postgres://postgres@", "postgresql://") + "?user=postgres&sslmode=disable&";
        List<Session> sessions = new ArrayList<>();
        for (int mode = 0; mode < MODES.length; mode++) {
            sessions.add(new Session(url + MODES[mode], "jdbc" + mode));
        }
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (int number = 0; lines.readLine() != null; number++) {
            System.out.println(round(sessions, number));
        }
    }

    static String round(List<Session> sessions, int number) {
        for (Session session : sessions) {
            try {
                session.round(number);
            } catch (Exception error) {
                StackTraceElement at = error.getStackTrace().length == 0 ? null : error.getStackTrace()[0];
                for (StackTraceElement element : error.getStackTrace()) {
                    if (element.getFileName() != null && element.getFileName().startsWith("Jdbc")) {
                        at = element;
                        break;
                    }
                }
                return "failed: " + session.name + " " + error.toString().replace('\n', '|') + " at " + at;
            }
        }
        return "ok";
    }

    static void same(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new IllegalStateException("got " + got + ", wanted " + wanted);
        }
    }

    /** One connection and what it prepared. */
    static class Session {
        final String name;
        final Connection connection;
        final PreparedStatement add;
        final PreparedStatement find;
        final PreparedStatement rename;
        final PreparedStatement all;

        Session(String url, String name) throws SQLException {
            this.name = name;
            connection = DriverManager.getConnection(url);
            add = connection.prepareStatement("INSERT INTO users (username, email) VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS);
            find = connection.prepareStatement("SELECT * FROM users WHERE username = ?");
            rename = connection.prepareStatement("UPDATE users SET username = ? WHERE username = ?");
            all = connection.prepareStatement("SELECT username FROM users WHERE username LIKE ? ORDER BY username");
        }

        void round(int number) throws SQLException {
            connection.setAutoCommit(true);
            String own = name + "-" + number;
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("DELETE FROM users WHERE username LIKE '" + name + "-%'");
            }
            add.setString(1, own);
            add.setString(2, "e");
            same(add.executeUpdate(), 1);
            long id;
            try (ResultSet keys = add.getGeneratedKeys()) {
                same(keys.next(), true);
                same(keys.getMetaData().getColumnCount(), 3);
                same(keys.getMetaData().getColumnName(2), "username");
                same(keys.getString("username"), own);
                id = keys.getLong("id");
            }
            // More often than the threshold, so that the server's statement is used too.
            for (int times = 0; times < 4; times++) {
                same(found(own), id);
            }
            rename.setString(1, own + "x");
            rename.setString(2, own);
            same(rename.executeUpdate(), 1);
            batch(own);
            transaction(own);
            several(own, id);
        }

        long found(String username) throws SQLException {
            find.setString(1, username);
            try (ResultSet rows = find.executeQuery()) {
                same(rows.next(), true);
                same(rows.getMetaData().getColumnCount(), 3);
                same(rows.getMetaData().getColumnName(2), "username");
                same(rows.getMetaData().getColumnTypeName(2), "varchar");
                same(rows.getString(2), username);
                return rows.getLong(1);
            }
        }

        List<String> all() throws SQLException {
            all.setString(1, name + "-%");
            List<String> found = new ArrayList<>();
            try (ResultSet rows = all.executeQuery()) {
                while (rows.next()) {
                    found.add(rows.getString("username"));
                }
            }
            return found;
        }

        void batch(String own) throws SQLException {
            for (int number = 0; number < 5; number++) {
                add.setString(1, own + "-b" + number);
                add.setString(2, null);
                add.addBatch();
            }
            same(add.executeBatch().length, 5);
            same(all().size(), 6);
            // A batch that fails in its middle.
            for (String username : new String[] {own + "-c", own + "x", own + "-d"}) {
                add.setString(1, username);
                add.setString(2, null);
                add.addBatch();
            }
            connection.setAutoCommit(false);
            try {
                add.executeBatch();
                throw new IllegalStateException("a duplicate was accepted");
            } catch (SQLException error) {
                same(error.getSQLState(), "23505");
            }
            connection.rollback();
            connection.setAutoCommit(true);
            same(all().size(), 6);
        }

        void transaction(String own) throws SQLException {
            connection.setAutoCommit(false);
            all.setFetchSize(2);
            same(all().size(), 6);
            all.setFetchSize(0);
            Savepoint savepoint = connection.setSavepoint();
            rename.setString(1, own + "-b0");
            rename.setString(2, own + "x");
            try {
                rename.executeUpdate();
                throw new IllegalStateException("a duplicate was accepted");
            } catch (SQLException error) {
                same(error.getSQLState(), "23505");
                same(((org.postgresql.util.PSQLException) error).getServerErrorMessage().getConstraint(), "users_username_key");
            }
            connection.rollback(savepoint);
            rename.setString(1, own + "y");
            rename.setString(2, own + "x");
            same(rename.executeUpdate(), 1);
            connection.commit();
            connection.setAutoCommit(true);
            same(all().contains(own + "y"), true);
        }

        void several(String own, long id) throws SQLException {
            try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                same(statement.execute("UPDATE users SET email = 'f' WHERE id = " + id + "; SELECT username, email FROM users WHERE id = " + id), false);
                same(statement.getUpdateCount(), 1);
                same(statement.getMoreResults(), true);
                try (ResultSet rows = statement.getResultSet()) {
                    same(rows.next(), true);
                    same(rows.getString(1) + rows.getString(2), own + "yf");
                }
            }
        }
    }
}
